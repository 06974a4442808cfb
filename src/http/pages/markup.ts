// HTML that cannot be forgotten to escape: a template whose values are text unless they are markup already.

export interface Markup {
  readonly markup: string;
}

export type Fragment = Markup | string | number | false | null | undefined | readonly Fragment[];

/** Tagged template. Text is escaped, markup and lists of it are put in as they are, false and null vanish. */
export function html(parts: TemplateStringsArray, ...values: Fragment[]): Markup {
  let markup = parts[0]!;
  values.forEach((value, index) => {
    markup += toMarkup(value) + parts[index + 1]!;
  });
  return { markup };
}

/** Prose of a schema or an operation: blank lines part paragraphs, `backticks` are code; all else is text. */
export function prose(text: string | undefined): Markup {
  const paragraphs = (text ?? '').split(/\n\s*\n/).filter((paragraph) => paragraph.trim() !== '');
  return html`${paragraphs.map((paragraph) => html`<p>${inline(paragraph.trim())}</p>`)}`;
}

export function inline(text: string): Markup {
  return html`${text.split(/`([^`]+)`/).map((piece, index) => (index % 2 === 1 ? html`<code>${piece}</code>` : piece))}`;
}

export interface Shell {
  title: string;
  description: string;
  /** Class of the body. */
  kind: string;
  body: Markup;
}

/** A whole page. It loads the site's own stylesheet and nothing else; the icon is in the page. */
export function shell({ title, description, kind, body }: Shell): string {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <meta name="description" content="${description}" />
        <title>${title}</title>
        <link rel="icon" href="${ICON}" />
        <link rel="stylesheet" href="/assets/site.css" />
      </head>
      <body class="${kind}">
        ${body}
      </body>
    </html> `.markup;
}

/** A flame, as a picture that needs no request. */
export const ICON =
  'data:image/svg+xml,' +
  encodeURIComponent(
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><path fill='#e8590c' d='M16 2c1 6 9 9 9 18a9 9 0 0 1-18 0c0-5 3-7 4-11 2 1 3 3 3 5 2-3 3-7 2-12z'/><path fill='#ffc078' d='M16 16c1 3 4 4 4 8a4 4 0 0 1-8 0c0-3 3-4 4-8z'/></svg>",
  );

export const flame = html`<svg class="flame" viewBox="0 0 32 32" aria-hidden="true">
  <path class="outer" d="M16 2c1 6 9 9 9 18a9 9 0 0 1-18 0c0-5 3-7 4-11 2 1 3 3 3 5 2-3 3-7 2-12z" />
  <path class="inner" d="M16 16c1 3 4 4 4 8a4 4 0 0 1-8 0c0-3 3-4 4-8z" />
</svg>`;

function toMarkup(value: Fragment): string {
  if (value === false || value === null || value === undefined) return '';
  if (typeof value === 'object' && 'markup' in value) return value.markup;
  if (Array.isArray(value)) return value.map(toMarkup).join('');
  return String(value).replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
