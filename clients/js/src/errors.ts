/**
 * Everything that this client and the gateway refuse. `code` is the gateway's (`RATE_LIMITED`, `DECRYPTION_FAILED`, …; see its
 * contract), or one of this client's own:
 *
 * - `KEY_UNAVAILABLE`: the gateway offers no key for this encryption and profile, or does not deliver keys.
 * - `CALLER_UNKNOWN`: whose message it is can be read from no token; give `subject`.
 * - `FOREIGN_ORIGIN`: the URL is not on the gateway's origin.
 * - `MEMBER_INVALID`: `members` are to be sealed in a body that is no JSON.
 * - `RESPONSE_NOT_SEALED`: a response in clear to a sealed request, and not the gateway's own problem.
 * - `RESPONSE_INVALID`: a response that does not open: changed, cut short, of another request, under another key.
 */
export class GapuraError extends Error {
  override readonly name = "GapuraError";

  constructor(
    readonly code: string,
    message: string,
    /** The HTTP response this error stands for, its body read. */
    readonly response?: Response,
    /** The gateway's problem (RFC 9457) where it is one. Nothing authenticates it: what it says is for people. */
    readonly problem?: Readonly<Record<string, unknown>>,
    options?: ErrorOptions,
  ) {
    super(`${code}: ${message}`, options);
  }

  get status(): number | undefined {
    return this.response?.status;
  }

  get requestId(): string | undefined {
    return this.response?.headers.get("X-Request-Id") ?? undefined;
  }
}

/** The gateway's own problem in a response, undefined where it is none. A service's problems come sealed. */
export function problemIn(response: Response, body: () => string): GapuraError | undefined {
  if (response.status < 400 || !/^application\/problem\+json\b/i.test(response.headers.get("Content-Type") ?? "")) return;
  let problem;
  try {
    problem = JSON.parse(body());
  } catch {
    return;
  }
  if (typeof problem?.code !== "string" || !String(problem.type).startsWith("urn:gapura:problem:")) return;
  return new GapuraError(problem.code, String(problem.detail ?? problem.title), response, problem);
}
