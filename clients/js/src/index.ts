export { gapura, type Options } from "./client.js";
export { GapuraError } from "./errors.js";
export type { KeySet, PublicKey } from "./keys.js";
