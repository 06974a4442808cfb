// A JSON schema → what a person reads: its type in a few words, its limits, and its fields, folded below the first level.
import type { Api, Schema } from './api.ts';
import { html, prose, type Markup } from './markup.ts';

/** Deeper than anybody reads. */
const MAX_DEPTH = 7;

/** The references behind which a schema stands, outermost first: what ends one that contains itself. */
type Trail = readonly (string | undefined)[];

/** The fields of an object, or the shape of anything else. */
export function schemaView(api: Api, schema: Schema, outer: Trail = []): Markup {
  if (outer.length > MAX_DEPTH || isInside(schema, outer)) return html``;
  const trail = [...outer, schema.$ref];
  const shape = flatten(api, schema);
  const parts: Markup[] = [];
  const required = new Set(shape.required);
  const properties = Object.entries(shape.properties ?? {});
  if (properties.length > 0) {
    parts.push(
      html`<dl class="fields">
        ${properties.map(([name, field]) => fieldView(api, field, { name, required: required.has(name), trail }))}
      </dl>`,
    );
  }
  const variants = shape.oneOf ?? shape.anyOf;
  if (variants) parts.push(variantsView(api, variants, trail));
  const inner = contained(shape);
  if (inner && hasInside(api, inner)) parts.push(schemaView(api, inner, trail));
  return html`${parts}`;
}

interface Field {
  name: string;
  required: boolean;
  trail?: Trail;
}

/** One name of a list of fields: also for parameters, which are fields of a request. */
export function fieldView(api: Api, schema: Schema, { name, required, trail = [] }: Field): Markup {
  const shape = flatten(api, schema);
  const limits = toLimits(shape);
  return html`<dt>
      <code class="name">${name}</code> <span class="type">${typeLabel(api, schema)}</span>
      ${required && html`<em class="required">required</em>`}
      ${shape.deprecated && html`<em class="deprecated">deprecated</em>`}
    </dt>
    <dd>
      ${prose(schema.description ?? shape.description)}${limits.length > 0 && html`<p class="limits">${limits}</p>`}
      ${hasInside(api, shape) && foldedView(api, schema, trail)}
    </dd>`;
}

function foldedView(api: Api, schema: Schema, trail: Trail): Markup {
  const inside = schemaView(api, schema, trail);
  if (inside.markup === '') return isInside(schema, trail) ? html`<p class="limits">as above</p>` : inside;
  return html`<details>
    <summary>${insideLabel(api, flatten(api, schema))}</summary>
    ${inside}
  </details>`;
}

/** `string`, `list of integer`, `"a" or "b"`, `map of string` … */
export function typeLabel(api: Api, schema: Schema, depth = 0): string {
  if (depth > 3) return 'any';
  const shape = flatten(api, schema);
  const only = soleValue(shape);
  if (only !== undefined) return JSON.stringify(only);
  if (shape.enum) return 'one of';
  const variants = shape.oneOf ?? shape.anyOf;
  if (variants) {
    const labels = variants.map((variant) => typeLabel(api, variant, depth + 1));
    return [...new Set(labels)].join(' or ');
  }
  const types = typesOf(shape);
  const inner = contained(shape);
  const labels = types.map((type) => {
    if (type === 'array') return `list of ${inner ? typeLabel(api, inner, depth + 1) : 'any'}`;
    if (type === 'object' && !shape.properties && inner) return `map of ${typeLabel(api, inner, depth + 1)}`;
    return type;
  });
  return labels.join(' or ') || 'any';
}

/** References resolved and `allOf` laid together; a description beside a reference wins over the one behind it. */
export function flatten(api: Api, schema: Schema, depth = 0): Schema {
  const target = schema.$ref ? { ...api.resolve(schema), ...without(schema, '$ref') } : schema;
  if (!target.allOf || depth > MAX_DEPTH) return target;
  const whole = without(target, 'allOf');
  for (const part of target.allOf) {
    const flat = flatten(api, part, depth + 1);
    const properties = { ...flat.properties, ...whole.properties };
    const required = [...(whole.required ?? []), ...(flat.required ?? [])];
    Object.assign(whole, { ...flat, ...whole, required }, Object.keys(properties).length > 0 ? { properties } : {});
  }
  return whole;
}

/** What an array or a map holds. */
export function contained(schema: Schema): Schema | undefined {
  if (typeof schema.items === 'object') return schema.items;
  if (schema.prefixItems) return { anyOf: schema.prefixItems };
  if (typeof schema.additionalProperties !== 'object') return undefined;
  return Object.keys(schema.additionalProperties).length > 0 ? schema.additionalProperties : undefined;
}

export function typesOf(schema: Schema): string[] {
  if (schema.type !== undefined) return [schema.type].flat();
  if (schema.properties) return ['object'];
  return schema.items === undefined ? [] : ['array'];
}

function variantsView(api: Api, variants: Schema[], trail: Trail): Markup {
  const inside = variants.filter((variant) => hasInside(api, variant));
  return html`${inside.map((variant, index) => {
    const body = schemaView(api, variant, trail);
    if (inside.length === 1) return body;
    return html`<div class="variant">
      <p class="variant-name">${variantName(api, variant) ?? `variant ${index + 1}`}</p>
      ${body}
    </div>`;
  })}`;
}

/** The value of the constant field that tells the variants apart, or a name from the schema. */
function variantName(api: Api, variant: Schema): Markup | string | undefined {
  const shape = flatten(api, variant);
  for (const [name, field] of Object.entries(shape.properties ?? {})) {
    const only = soleValue(flatten(api, field));
    if (only !== undefined) return html`where <code>${name}</code> is <code>${JSON.stringify(only)}</code>`;
  }
  return shape.title ?? variant.$ref?.split('/').pop() ?? typeLabel(api, variant);
}

function isInside(schema: Schema, trail: Trail): boolean {
  return schema.$ref !== undefined && trail.includes(schema.$ref);
}

function hasInside(api: Api, schema: Schema, depth = 0): boolean {
  if (depth > MAX_DEPTH) return false;
  const shape = flatten(api, schema);
  if (Object.keys(shape.properties ?? {}).length > 0) return true;
  const inner = contained(shape);
  return [...(shape.oneOf ?? shape.anyOf ?? []), ...(inner ? [inner] : [])].some((each) =>
    hasInside(api, each, depth + 1),
  );
}

function insideLabel(api: Api, shape: Schema): string {
  const count = Object.keys(shape.properties ?? {}).length;
  if (count > 0) return count === 1 ? '1 field' : `${count} fields`;
  return contained(shape) && !typeLabel(api, shape).includes(' or ') ? 'each item' : 'its shapes';
}

function toLimits(schema: Schema): Markup[] {
  const choices = soleValue(schema) === undefined ? (schema.enum ?? []) : [];
  const values = choices.map((value) => html`<code class="value">${JSON.stringify(value)}</code>`);
  const limits = [
    schema.default === undefined
      ? undefined
      : html`<span>default <code>${JSON.stringify(schema.default)}</code></span>`,
    range(schema),
    lengths(schema.minLength, schema.maxLength, 'character'),
    lengths(schema.minItems, schema.maxItems, 'item'),
    schema.multipleOf === undefined ? undefined : html`<span>multiple of ${schema.multipleOf}</span>`,
    schema.format ? html`<span>format <code>${schema.format}</code></span>` : undefined,
    schema.pattern ? html`<span>matches <code>${schema.pattern}</code></span>` : undefined,
    ...itemLimits(schema),
  ];
  return [...values, ...limits.filter((limit) => limit !== undefined)];
}

/** A literal is written as a constant or as a list of one. */
export function soleValue(schema: Schema): unknown {
  return schema.const ?? (schema.enum?.length === 1 ? schema.enum[0] : undefined);
}

/** The limits of what a list holds, where they would otherwise be told nowhere. */
function itemLimits(schema: Schema): Markup[] {
  const inner = contained(schema);
  if (!inner || inner.$ref || inner.properties) return [];
  return (inner.enum ?? []).map((value) => html`<code class="value">${JSON.stringify(value)}</code>`);
}

function range(schema: Schema): Markup | undefined {
  const low = bound(schema.minimum);
  const high = bound(schema.maximum);
  const above = bound(schema.exclusiveMinimum);
  const below = bound(schema.exclusiveMaximum);
  if (low !== undefined && high !== undefined) return html`<span>${count(low)} to ${count(high)}</span>`;
  const parts = [
    low === undefined ? '' : `at least ${count(low)}`,
    above === undefined ? '' : `more than ${count(above)}`,
    high === undefined ? '' : `at most ${count(high)}`,
    below === undefined ? '' : `less than ${count(below)}`,
  ].filter(Boolean);
  return parts.length > 0 ? html`<span>${parts.join(', ')}</span>` : undefined;
}

function lengths(low: number | undefined, high: number | undefined, unit: string): Markup | undefined {
  const range_ = [low ? `at least ${count(low)}` : '', high === undefined ? '' : `at most ${count(high)}`].filter(
    Boolean,
  );
  if (range_.length === 0) return undefined;
  if (low !== undefined && low === high) return html`<span>${count(low)} ${plural(low, unit)}</span>`;
  return html`<span>${range_.join(', ')} ${plural(high ?? low!, unit)}</span>`;
}

/** Integers are bounded by what a double holds; saying so to a reader is noise. */
function bound(value: number | undefined): number | undefined {
  return value !== undefined && Math.abs(value) < Number.MAX_SAFE_INTEGER ? value : undefined;
}

function count(value: number): string {
  return Number.isInteger(value) && Math.abs(value) >= 10_000 ? value.toLocaleString('en-US') : String(value);
}

const plural = (value: number, unit: string) => (value === 1 ? unit : `${unit}s`);

function without<Name extends keyof Schema>(schema: Schema, name: Name): Schema {
  const { [name]: _, ...rest } = schema;
  return rest;
}
