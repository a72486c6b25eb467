/** How coded errors travel over gRPC: the status for strangers, the code in the trailing metadata, the message in the details. */
import { Metadata, status as Status, type ServiceError, type StatusObject } from '@grpc/grpc-js';
import { AfterimageError, EXIT, isErrorCode, toAfterimageError, type ErrorCode } from '../proto/errors.js';

const CODE_KEY = 'afterimage-code';
/** Headers are limited to 16 KiB; percent-encoding makes up to nine bytes of one character. */
const MESSAGE_CHARACTERS_MAX = 1024;

const STATUS_OF_EXIT: Readonly<Record<number, Status>> = {
  [EXIT.failure]: Status.INTERNAL,
  [EXIT.usage]: Status.INVALID_ARGUMENT,
  [EXIT.config]: Status.INVALID_ARGUMENT,
  [EXIT.refused]: Status.FAILED_PRECONDITION,
  [EXIT.notFound]: Status.NOT_FOUND,
  [EXIT.unavailable]: Status.UNAVAILABLE,
  [EXIT.busy]: Status.ABORTED,
  [EXIT.full]: Status.RESOURCE_EXHAUSTED,
  [EXIT.damaged]: Status.DATA_LOSS,
  [EXIT.interrupted]: Status.CANCELLED,
};

/** What a call ends with when its handler threw. */
export function statusOf(thrown: unknown): Pick<StatusObject, 'code' | 'details' | 'metadata'> {
  const error = toAfterimageError(thrown);
  const metadata = new Metadata();
  metadata.set(CODE_KEY, error.code);
  return {
    code:
      error.code === 'PERMISSION_DENIED'
        ? Status.PERMISSION_DENIED
        : (STATUS_OF_EXIT[error.exit] ?? Status.INTERNAL),
    details: encodable(error.message),
    metadata,
  };
}

/** What a failed call means to the caller; `peer` names the other side, `isAborted` says that this side gave up. */
export function errorOf(error: ServiceError, peer: string, isAborted: boolean): AfterimageError {
  const named = error.metadata?.get(CODE_KEY)[0];
  if (isErrorCode(named)) return new AfterimageError(named, error.details, { cause: error });
  const [code, message] = meaning(error, peer, isAborted);
  return new AfterimageError(code, message, { cause: error });
}

/** Whether a connection failed since the other side's certificate was not that of a receiver: gRPC hands on what OpenSSL says. */
export function isOfStranger(details: string): boolean {
  return /certificate|altnames/.test(details);
}

/** Why there is no connection, without what gRPC says around it. */
export function reasonOf(details: string): string {
  const inner = /^No connection established\. Last error: (?:Error: )?(.*?)\.? Resolution note: ?$/s.exec(
    details,
  )?.[1];
  return inner?.replace(/\\n$|\n$/, '') ?? details;
}

/** Statuses without our code were made by gRPC itself, on this side or the other. */
function meaning(error: ServiceError, peer: string, isAborted: boolean): [ErrorCode, string] {
  switch (error.code) {
    case Status.UNAVAILABLE:
      if (isOfStranger(error.details))
        return [
          'AUTHORITY_MISMATCH',
          `who answers at ${peer} is not the receiver: ${reasonOf(error.details)}`,
        ];
      return ['DAEMON_UNREACHABLE', `${peer} does not answer: ${reasonOf(error.details)}`];
    case Status.DEADLINE_EXCEEDED:
      return ['DAEMON_TIMEOUT', `${peer} did not answer in time`];
    case Status.CANCELLED:
      if (isAborted) return ['INTERRUPTED', `the call to ${peer} was cancelled`];
      return ['DAEMON_UNREACHABLE', `${peer} ended the call`];
    case Status.RESOURCE_EXHAUSTED:
      return ['MESSAGE_TOO_LARGE', `an answer of ${peer} was too long: ${error.details}`];
    case Status.UNIMPLEMENTED:
      return ['PROTOCOL_VERSION', `${peer} does not know this call: ${error.details}`];
    default:
      return ['MESSAGE_INVALID', `${peer}: ${error.details}`];
  }
}

/** gRPC percent-encodes details with encodeURI, which throws on half a surrogate pair. */
function encodable(message: string): string {
  return Buffer.from(message.slice(0, MESSAGE_CHARACTERS_MAX), 'utf8').toString('utf8');
}
