export { gapura } from "./client.js";
export { GapuraError } from "./errors.js";
export type { KeySet, PublicKey } from "./keys.js";
export type { Options } from "./options.js";
