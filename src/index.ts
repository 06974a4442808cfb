// What other code may import: the app, its parts and its contracts.
export { createApp, type App } from './app.ts';
export { createArbiter, type Arbiter } from './arbiter/arbiter.ts';
export { capabilities, capabilityIds, type CapabilityId, type Input, type Output } from './capabilities/index.ts';
export { createCatalog, type Catalog } from './catalog.ts';
export { resolveConfig, toEnvExample, ConfigError, type Config } from './config.ts';
export { GatewayError, type ErrorCode } from './error.ts';
export type { RunEvent } from './event.ts';
export { createGateway, type Gateway } from './gateway.ts';
export type { Handler, Model, RuntimeAdapter } from './runtime.ts';
export { createUpstream, fetchTransport, type Transport } from './upstream.ts';
