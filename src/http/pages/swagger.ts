// The interactive documents page: swagger-ui from this gateway's own files, told to call nobody else.
import { html, ICON } from './markup.ts';

export function swaggerPage(): string {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>hono-ai · try it</title>
        <link rel="icon" href="${ICON}" />
        <link rel="stylesheet" href="/docs/assets/swagger-ui.css" />
      </head>
      <body>
        <div id="swagger-ui"></div>
        <noscript
          ><p>This page needs JavaScript. <a href="/redoc">The reference</a> does not.</p></noscript
        >
        <script src="/docs/assets/swagger-ui-bundle.js"></script>
        <script src="/docs/assets/init.js"></script>
      </body>
    </html> `.markup;
}

/** The text of /docs/assets/init.js. */
export const swaggerInit = `window.ui = SwaggerUIBundle({
  url: '/openapi.json',
  dom_id: '#swagger-ui',
  presets: [SwaggerUIBundle.presets.apis],
  layout: 'BaseLayout',
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: 'list',
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
  // A key typed here is gone when the page is.
  persistAuthorization: false,
  // null, or the document would be sent to an online validator.
  validatorUrl: null,
  // A parameter of the address must not be able to load somebody else's document.
  queryConfigEnabled: false,
});
`;
