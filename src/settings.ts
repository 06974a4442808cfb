// Every setting: its name in the environment and in the file, its default and its meaning.
import { z } from 'zod';
import { cardSettings } from './settings/card.ts';
import {
  bytes,
  count,
  duration,
  flag,
  list,
  milliseconds,
  optional,
  pairs,
  secret,
  setting,
  url,
  type Setting,
} from './settings/fields.ts';

export type { Setting } from './settings/fields.ts';

export const runtimeEntry = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,63}$/i),
  kind: z.enum(['ollama', 'openai', 'xai', 'comfyui', 'acestep', 'a1111']),
  url: url.optional(),
  api_key: z.string().optional(),
  /** The environment variable that holds the key, so that the file holds no secret. */
  api_key_env: z.string().optional(),
  /** A fixed model list, for servers that have none. */
  models: z.array(z.string()).optional(),
  priority: z.number().int().optional(),
  /** How many requests for one model it works on at the same time; the rest waits in the gateway's order. */
  slots: z.number().int().min(1).max(1000).optional(),
});
export type RuntimeEntry = z.output<typeof runtimeEntry>;

/** Name in the file → setting. The order is the order of `.env.example`. */
export const settings = {
  host: setting(
    'HOST',
    z.string().min(1),
    '127.0.0.1',
    'Address to listen on. Anything but loopback needs HONO_AI_API_KEY.',
  ),
  port: setting('PORT', z.coerce.number().int().min(0).max(65_535), 8787, 'Port to listen on; 0 takes a free one.'),
  api_key: secret(
    'HONO_AI_API_KEY',
    z.string().min(16, 'at least 16 characters'),
    'The key callers must send (Authorization: Bearer, x-api-key or api-key). At least 16 characters.',
  ),
  callers: secret(
    'HONO_AI_CALLERS',
    list
      .transform((entries) => entries.map((entry) => /^([a-z0-9][a-z0-9._-]{0,63}):(.{16,})$/i.exec(entry)?.slice(1)))
      .refine((pairs) => pairs.every(Boolean), 'name:key,name:key, keys of at least 16 characters')
      .transform((pairs) => Object.fromEntries(pairs as [string, string][])),
    'More callers, each with a key and jobs of its own: name:key,name:key. The one with HONO_AI_API_KEY is called owner.',
  ),
  allow_public: setting(
    'HONO_AI_ALLOW_PUBLIC',
    flag,
    false,
    'Bind beyond loopback without a key. Everybody who reaches the port can use the card.',
  ),
  allowed_hosts: setting(
    'HONO_AI_ALLOWED_HOSTS',
    list,
    '',
    'More Host names to answer to, comma-separated. Loopback names always work; * allows all.',
  ),
  allowed_origins: setting(
    'HONO_AI_ALLOWED_ORIGINS',
    list,
    '',
    'Web origins that may call from a browser, comma-separated. Pages of this machine always may.',
  ),
  state_dir: optional(
    'HONO_AI_STATE_DIR',
    z.string(),
    'Where everything the gateway keeps lives; $XDG_STATE_HOME/hono-ai if unset.',
  ),
  log_level: setting(
    'HONO_AI_LOG_LEVEL',
    z.enum(['debug', 'info', 'warn', 'error', 'silent']),
    'info',
    'debug, info, warn, error or silent.',
  ),
  discover: setting(
    'HONO_AI_DISCOVER',
    flag,
    true,
    'Look for Ollama, llama-server, LM Studio, vLLM and others on their usual local ports.',
  ),
  ollama_url: optional(
    'OLLAMA_HOST',
    z.string(),
    'Where Ollama is, as Ollama itself reads it; found on 127.0.0.1:11434 if unset.',
  ),
  openai_base_url: optional('OPENAI_BASE_URL', url, 'An OpenAI-compatible server, with /v1.'),
  openai_api_key: secret('OPENAI_API_KEY', z.string(), 'Its key.'),
  xai_api_key: secret('XAI_API_KEY', z.string(), 'Adds xAI Grok as a remote runtime.'),
  comfyui_url: optional('HONO_AI_COMFYUI_URL', url, 'Where ComfyUI is; found on 127.0.0.1:8188 if unset.'),
  workflows_dir: optional(
    'HONO_AI_WORKFLOWS_DIR',
    z.string(),
    'Your own ComfyUI workflows: NAME.json with NAME.binding.json beside it; workflows in the state directory if unset.',
  ),
  acestep_url: optional('HONO_AI_ACESTEP_URL', url, 'Where an ACE-Step 1.5 API server is.'),
  acestep_key: secret('HONO_AI_ACESTEP_KEY', z.string(), 'Its key.'),
  a1111_url: optional('HONO_AI_A1111_URL', url, 'Where AUTOMATIC1111, Forge or SD.Next is, started with --api.'),
  ...cardSettings,
  max_body: setting('HONO_AI_MAX_BODY', bytes, '32MB', 'Largest request body.'),
  max_reply: setting('HONO_AI_MAX_REPLY', bytes, '64MB', 'Largest answer of a runtime that is held in memory.'),
  max_backlog: setting(
    'HONO_AI_MAX_BACKLOG',
    bytes,
    '8MB',
    'Bytes that may wait for a reader who does not keep up; then the connection is cut.',
  ),
  max_runs: setting(
    'HONO_AI_MAX_RUNS',
    z.coerce.number().int().min(1),
    1024,
    'Runs at the same time, waiting ones included; more are answered 503.',
  ),
  first_byte_ms: setting(
    'HONO_AI_FIRST_BYTE_MS',
    milliseconds,
    600_000,
    'How long a runtime may take to begin an answer (a cold model loads first).',
  ),
  idle_ms: setting('HONO_AI_IDLE_MS', milliseconds, 120_000, 'How long a runtime may be silent within an answer.'),
  control_ms: setting(
    'HONO_AI_CONTROL_MS',
    milliseconds,
    4_000,
    'How long a runtime may take to list its models or say that it is well.',
  ),
  queue_ms: setting('HONO_AI_QUEUE_MS', milliseconds, 900_000, 'How long a request may wait for the card.'),
  heartbeat_ms: setting('HONO_AI_HEARTBEAT_MS', milliseconds, 8_000, 'A stream says : ping after this much silence.'),
  request_ms: setting('HONO_AI_REQUEST_MS', milliseconds, 60_000, 'How long a caller may take to send a request.'),
  drain_ms: setting(
    'HONO_AI_DRAIN_MS',
    milliseconds,
    30_000,
    'How long running answers may take to finish after SIGTERM.',
  ),
  catalog_ms: setting('HONO_AI_CATALOG_MS', milliseconds, 10_000, 'How long a list of models is good for.'),
  redis_url: secret(
    'HONO_AI_REDIS_URL',
    z.url({ protocol: /^rediss?$/, error: 'a redis:// or rediss:// address' }),
    'Keep jobs in Redis or Valkey, for several gateways on one queue; in the state directory if unset.',
  ),
  job_concurrency: setting(
    'HONO_AI_JOB_CONCURRENCY',
    z.coerce.number().int().min(0).max(1000),
    16,
    'Jobs that this gateway works on at the same time, those that wait for the card included; 0 takes jobs but runs none.',
  ),
  job_attempts: setting('HONO_AI_JOB_ATTEMPTS', count, 3, 'How often a job may be started before it counts as failed.'),
  job_queue_ms: setting('HONO_AI_JOB_QUEUE_MS', duration, 86_400_000, 'How long a job may wait for its first start.'),
  job_run_ms: setting('HONO_AI_JOB_RUN_MS', duration, 7_200_000, 'How long one attempt of a job may take.'),
  job_total_ms: setting('HONO_AI_JOB_TOTAL_MS', duration, 172_800_000, 'How long a job may take in all.'),
  job_keep_ms: setting('HONO_AI_JOB_KEEP_MS', duration, 604_800_000, 'How long ended jobs are kept.'),
  job_lease_ms: setting(
    'HONO_AI_JOB_LEASE_MS',
    milliseconds,
    15_000,
    'A job whose worker gave no sign of life for this long is given to another.',
  ),
  job_max_queued: setting('HONO_AI_JOB_MAX_QUEUED', count, 100_000, 'Jobs that one caller may have waiting.'),
  idempotency_ms: setting('HONO_AI_IDEMPOTENCY_MS', duration, 86_400_000, 'How long an Idempotency-Key is remembered.'),
  memory: setting(
    'HONO_AI_MEMORY',
    z.enum(['off', 'caller', 'all']),
    'caller',
    'Answer a job with an explicit seed from what the same request made before: off, of the same caller, or of all.',
  ),
  event_window: setting('HONO_AI_EVENT_WINDOW', count, 10_000, 'Events kept for watchers that come back.'),
  max_watchers: setting('HONO_AI_MAX_WATCHERS', count, 20_000, 'Connections that may watch events at the same time.'),
  artifact_keep_ms: setting(
    'HONO_AI_ARTIFACT_KEEP_MS',
    duration,
    2_592_000_000,
    'How long a file is kept after it was last used.',
  ),
  artifact_budget: setting(
    'HONO_AI_ARTIFACT_BUDGET',
    bytes,
    '20GB',
    'Room for files; the longest unused ones leave when it is full.',
  ),
  artifact_url_ms: setting('HONO_AI_ARTIFACT_URL_MS', duration, 86_400_000, 'How long a signed link to a file works.'),
  max_upload: setting('HONO_AI_MAX_UPLOAD', bytes, '1GB', 'Largest uploaded file.'),
  s3_url: optional(
    'HONO_AI_S3_URL',
    url,
    'Keep files in an S3-compatible bucket: its address with the bucket, https://host/bucket.',
  ),
  s3_access_key: secret('HONO_AI_S3_ACCESS_KEY', z.string(), 'Its access key.'),
  s3_secret_key: secret('HONO_AI_S3_SECRET_KEY', z.string(), 'Its secret key.'),
  s3_region: setting('HONO_AI_S3_REGION', z.string(), 'auto', 'Its region.'),
  webhook_timeout_ms: setting(
    'HONO_AI_WEBHOOK_TIMEOUT_MS',
    milliseconds,
    20_000,
    'How long the receiver of a webhook may take to answer.',
  ),
  webhook_concurrency: setting('HONO_AI_WEBHOOK_CONCURRENCY', count, 4, 'Deliveries to one receiver at the same time.'),
  webhook_allow: setting(
    'HONO_AI_WEBHOOK_ALLOW',
    list,
    '',
    'Host names, addresses or networks (192.168.1.0/24) inside your own network that may receive webhooks.',
  ),
  max_image: setting('HONO_AI_MAX_IMAGE', bytes, '50MB', 'Largest picture that a request may bring.'),
  max_pixels: setting(
    'HONO_AI_MAX_PIXELS',
    z.coerce.number().int().min(1).max(1_000_000_000),
    64_000_000,
    'Most pixels of a picture that a request may bring; it is not decoded beyond.',
  ),
  pull_on_use: setting(
    'HONO_AI_PULL_ON_USE',
    flag,
    false,
    'Get a model that anybody asks for by name and that is not here. The request waits for it.',
  ),
  pull_concurrency: setting('HONO_AI_PULL_CONCURRENCY', count, 2, 'Models that are fetched at the same time.'),
  pull_stall_ms: setting(
    'HONO_AI_PULL_STALL_MS',
    milliseconds,
    30_000,
    'A download that brings nothing for this long is begun again where it was.',
  ),
  pull_tries: setting('HONO_AI_PULL_TRIES', count, 8, 'How often in a row that may bring nothing.'),
  pull_allow: setting(
    'HONO_AI_PULL_ALLOW',
    list,
    '',
    'Host names, addresses or networks inside your own network that models may be fetched from.',
  ),
  model_dirs: setting(
    'HONO_AI_MODEL_DIRS',
    pairs('name:/folder,name:/folder'),
    '',
    'Folders where runtimes keep their models, for pulls, by the runtime’s name, or whisper or kokoro: comfyui:/folder,whisper:/folder.',
  ),
  ollama_registry: setting(
    'HONO_AI_OLLAMA_REGISTRY',
    url,
    'https://registry.ollama.ai',
    'Where Ollama’s library is, to tell the size of a model before it is pulled.',
  ),
  idle_ttl_s: optional(
    'HONO_AI_IDLE_TTL_S',
    z.coerce.number().int().min(1).max(31_536_000),
    'Seconds without use until any model leaves memory; as each runtime likes if unset.',
  ),
  models_dir: optional('HONO_AI_MODELS_DIR', z.string(), 'A folder of your own models for the embedded runtime.'),
  embedded: setting('HONO_AI_EMBEDDED', flag, true, 'Offer the embedded runtime.'),
  embedded_engine: setting(
    'HONO_AI_EMBEDDED_ENGINE',
    z.enum(['auto', 'wasm', 'native']),
    'auto',
    'auto, wasm or native (needs onnxruntime-node).',
  ),
  embedded_threads: setting(
    'HONO_AI_EMBEDDED_THREADS',
    z.coerce.number().int().min(1).max(256),
    1,
    'CPU threads of the embedded runtime.',
  ),
  embedded_download: setting(
    'HONO_AI_EMBEDDED_DOWNLOAD',
    flag,
    false,
    'Fetch a known hub model when it is first asked for.',
  ),
  embedded_idle_ms: setting(
    'HONO_AI_EMBEDDED_IDLE_MS',
    milliseconds,
    300_000,
    'Idle time after which the embedded runtime gives its memory back.',
  ),
  embedded_queue: setting(
    'HONO_AI_EMBEDDED_QUEUE',
    z.coerce.number().int().min(0).max(10_000),
    16,
    'Requests that may wait for the embedded runtime.',
  ),
  hf_endpoint: setting('HF_ENDPOINT', url, 'https://huggingface.co', 'The Hugging Face hub, or a mirror.'),
  hf_token: secret('HF_TOKEN', z.string(), 'For gated models of the hub.'),
} satisfies Record<string, Setting<z.ZodType>>;
