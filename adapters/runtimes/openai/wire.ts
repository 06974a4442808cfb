// The shapes that OpenAI-compatible servers send, as loosely as they really send them.

export interface WireUsage {
  prompt_tokens?: number;
  completion_tokens?: number;
  total_tokens?: number;
  completion_tokens_details?: { reasoning_tokens?: number } | null;
}

export interface WireAlternative {
  token: string;
  logprob: number;
  bytes?: number[] | null;
}

export interface WireLogprob extends WireAlternative {
  top_logprobs?: WireAlternative[] | null;
}

/** `arguments` is JSON text, or an object where a server does as Ollama does. */
export interface WireFunction {
  name?: string | null;
  arguments?: unknown;
}

/** Of a message or of a delta. */
export interface WireToolCall {
  index?: number | null;
  id?: string | null;
  function?: WireFunction | null;
}

export interface WireMessage {
  content?: string | { text?: string }[] | null;
  refusal?: string | null;
  reasoning_content?: string | null;
  reasoning?: string | null;
  tool_calls?: WireToolCall[] | null;
  /** Before there were tools. */
  function_call?: WireFunction | null;
}

/** The older, columnar log-probabilities of /completions. */
export interface WireColumns {
  tokens?: string[];
  token_logprobs?: (number | null)[];
  top_logprobs?: (Record<string, number> | null)[] | null;
}

export interface WireChoice {
  index?: number;
  delta?: WireMessage | null;
  message?: WireMessage | null;
  text?: string | null;
  finish_reason?: string | null;
  logprobs?: ({ content?: WireLogprob[] | null } & WireColumns) | null;
}

/** A whole answer, or a piece of one. */
export interface WireAnswer {
  choices?: WireChoice[];
  usage?: WireUsage | null;
}

export interface WireEmbeddings {
  /** A string is base64 of little-endian float32, which some servers send whatever was asked. */
  data?: { index?: number; embedding?: number[] | string }[];
  usage?: WireUsage | null;
}

export interface WireModel {
  id: string;
  created?: number;
  owned_by?: string;
  /** LM Studio. */
  state?: string;
  type?: string;
  max_context_length?: number;
  /** vLLM. */
  max_model_len?: number;
  /** llama.cpp. */
  meta?: {
    n_ctx?: number;
    n_ctx_train?: number;
    size?: number;
    n_params?: number;
    /** llama-swap. */
    llamaswap?: { aliases?: unknown } | null;
  } | null;
  status?: { value?: string } | null;
  /** What a model is for, where speaches lists it. */
  task?: string;
  /** vLLM: where its weights came from. */
  root?: string;
  architecture?: { input_modalities?: string[]; output_modalities?: string[] } | null;
  /** xAI’s longer lists have them beside the id. */
  input_modalities?: string[];
  output_modalities?: string[];
  /** Mistral. */
  capabilities?: { vision?: boolean } | null;
}

export interface WireModels {
  data?: WireModel[];
  /** llama.cpp tells here whether what it loaded has eyes. */
  models?: { name?: string; model?: string; capabilities?: string[] }[];
}

export interface WirePicture {
  b64_json?: string | null;
  url?: string | null;
  revised_prompt?: string | null;
  /** xAI: false where it made a picture and keeps it to itself. */
  respect_moderation?: boolean | null;
}

export interface WirePictures {
  data?: WirePicture[] | null;
  usage?: WireCost | null;
}

/** xAI: 10^10 ticks are a dollar. */
export interface WireCost {
  cost_in_usd_ticks?: number | null;
}

/** xAI's film. Older answers have no status: then a `video` says that it is done. */
export interface WireXaiFilm {
  status?: string;
  progress?: number;
  video?: { url?: string | null; respect_moderation?: boolean | null } | null;
  usage?: WireCost | null;
  error?: { code?: string; message?: string } | string | null;
}

/** What an sd-server says of itself; older ones say less. */
export interface WireSdcpp {
  /** `img_gen`, `vid_gen`. */
  supported_modes?: string[];
  output_formats_by_mode?: Record<string, string[]>;
  features_by_mode?: Record<string, Record<string, boolean>>;
  defaults_by_mode?: Record<string, { fps?: number }>;
  samplers?: string[];
  schedulers?: string[];
  loras?: { name?: string; path?: string }[];
  limits?: { max_width?: number; max_height?: number; max_batch_count?: number };
}

/** A job of an sd-server. */
export interface WireSdcppJob {
  id?: string;
  /** `queued`, `generating`, `completed`, `failed` or `cancelled`. */
  status?: string;
  /** From 1. */
  queue_position?: number | null;
  /** Pictures under `images`; a film is the whole of it. */
  result?: { images?: (WirePicture & { index?: number })[] | null; b64_json?: string | null } | null;
  error?: { code?: string; message?: string } | null;
}

/** OpenAI's film. */
export interface WireFilm {
  id?: string;
  status?: string;
  progress?: number;
  error?: { code?: string; message?: string } | null;
}
