// An OpenAPI 3.1 document → the operations that pages show: references resolved, grouped by tag, in the document's order.

/** The parts of JSON Schema that the pages tell about. */
export interface Schema {
  $ref?: string;
  type?: string | string[];
  title?: string;
  description?: string;
  deprecated?: boolean;
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  example?: unknown;
  examples?: unknown[];
  format?: string;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  multipleOf?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  items?: Schema | boolean;
  prefixItems?: Schema[];
  oneOf?: Schema[];
  anyOf?: Schema[];
  allOf?: Schema[];
}

export interface Content {
  type: string;
  schema: Schema;
  example?: unknown;
}

export interface Parameter {
  name: string;
  in: string;
  description?: string;
  required: boolean;
  schema: Schema;
}

export interface Answer {
  /** A status, a range such as `4XX`, or `default`. */
  status: string;
  description: string;
  contents: Content[];
}

export interface Operation {
  /** Unique in the page, safe in a URL. */
  anchor: string;
  method: string;
  path: string;
  summary: string;
  description?: string;
  deprecated: boolean;
  /** Needs an API key. */
  keyed: boolean;
  parameters: Parameter[];
  body?: { required: boolean; description?: string; contents: Content[] };
  answers: Answer[];
}

export interface Api {
  title: string;
  version: string;
  description: string;
  baseUrl?: string;
  groups: { name: string; anchor: string; description?: string; operations: Operation[] }[];
  /** The schema that a reference names, itself where it is none. */
  resolve(schema: Schema): Schema;
}

type Fields = Record<string, unknown>;

const METHODS = ['get', 'post', 'put', 'patch', 'delete', 'head', 'options', 'trace'];

/** Takes any OpenAPI 3.1 document; what is missing or malformed is left out. */
export function toApi(openApi: object): Api {
  const document = openApi as Fields;
  const info = fields(document['info']);
  const servers = list(document['servers']).map((server) => text(server['url']));
  const groups = new Map<string, Operation[]>();
  const anchors = new Set<string>();
  for (const [path, item] of Object.entries(fields(document['paths']))) {
    for (const method of METHODS.filter((name) => name in fields(item))) {
      const source = fields(fields(item)[method]);
      const operation = toOperation(document, { path, method, source, shared: list(fields(item)['parameters']) });
      while (anchors.has(operation.anchor)) operation.anchor += '-';
      anchors.add(operation.anchor);
      const tag = text((source['tags'] as unknown[] | undefined)?.[0]) || 'other';
      groups.set(tag, [...(groups.get(tag) ?? []), operation]);
    }
  }
  const described = new Map(list(document['tags']).map((tag) => [text(tag['name']), text(tag['description'])]));
  const baseUrl = servers.find(Boolean)?.replace(/\/+$/, '');
  return {
    title: text(info['title']) || 'API',
    version: text(info['version']),
    description: text(info['description']),
    ...(baseUrl ? { baseUrl } : {}),
    groups: [...groups].map(([name, operations]) => {
      const description = described.get(name);
      return { name, anchor: `tag-${slug(name)}`, ...(description ? { description } : {}), operations };
    }),
    resolve: (schema) => fields(resolve(document, schema as Fields)) as Schema,
  };
}

interface Source {
  path: string;
  method: string;
  source: Fields;
  shared: Fields[];
}

function toOperation(document: Fields, { path, method, source, shared }: Source): Operation {
  const parameters = [...shared, ...list(source['parameters'])].map((each) => fields(resolve(document, each)));
  const body =
    source['requestBody'] === undefined ? undefined : fields(resolve(document, fields(source['requestBody'])));
  const security = (source['security'] ?? document['security']) as unknown[] | undefined;
  const description = text(source['description']);
  return {
    anchor: slug(text(source['operationId']) || `${method} ${path}`),
    method: method.toUpperCase(),
    path,
    summary: text(source['summary']) || `${method.toUpperCase()} ${path}`,
    ...(description ? { description } : {}),
    deprecated: source['deprecated'] === true,
    // An empty alternative in the list means that no key will do as well.
    keyed:
      Array.isArray(security) && security.length > 0 && security.every((each) => Object.keys(fields(each)).length > 0),
    parameters: parameters.map(toParameter),
    ...(body
      ? { body: { required: body['required'] === true, ...toDescribed(body), contents: toContents(body) } }
      : {}),
    answers: Object.entries(fields(source['responses'])).map(([status, reference]) => {
      const answer = fields(resolve(document, fields(reference)));
      return { status, description: text(answer['description']), contents: toContents(answer) };
    }),
  };
}

function toParameter(parameter: Fields): Parameter {
  return {
    name: text(parameter['name']),
    in: text(parameter['in']),
    ...toDescribed(parameter),
    required: parameter['required'] === true,
    schema: fields(parameter['schema']) as Schema,
  };
}

function toContents(from: Fields): Content[] {
  return Object.entries(fields(from['content'])).map(([type, media]) => {
    const { schema, example, examples } = fields(media);
    const shown = example ?? fields(Object.values(fields(examples))[0])['value'];
    return { type, schema: fields(schema) as Schema, ...(shown === undefined ? {} : { example: shown }) };
  });
}

function toDescribed(from: Fields): { description?: string } {
  const description = text(from['description']);
  return description ? { description } : {};
}

/** Follows `#/a/b` references within the document, but never in a circle. */
function resolve(document: Fields, value: Fields): unknown {
  let current: unknown = value;
  for (let hops = 0; hops < 16; hops++) {
    const reference = fields(current)['$ref'];
    if (typeof reference !== 'string' || !reference.startsWith('#/')) return current;
    current = reference
      .slice(2)
      .split('/')
      .reduce<unknown>((at, name) => fields(at)[name.replaceAll('~1', '/').replaceAll('~0', '~')], document);
  }
  return {};
}

export function slug(words: string): string {
  const safe = words.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  return safe.replace(/^-|-$/g, '') || 'x';
}

function fields(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

function list(value: unknown): Fields[] {
  return Array.isArray(value) ? value.map(fields) : [];
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
