/** How coded errors travel over gRPC: the status for strangers, the code in the trailing metadata, the message in the details. */
import { Metadata, status as Status } from '@grpc/grpc-js';
import { AfterimageError, EXIT, isErrorCode, toAfterimageError } from '../proto/errors.js';
const CODE_KEY = 'afterimage-code';
/** Headers are limited to 16 KiB; percent-encoding makes up to nine bytes of one character. */
const MESSAGE_CHARACTERS_MAX = 1024;
const STATUS_OF_EXIT = {
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
export function statusOf(thrown) {
    const error = toAfterimageError(thrown);
    const metadata = new Metadata();
    metadata.set(CODE_KEY, error.code);
    return {
        code: error.code === 'PERMISSION_DENIED'
            ? Status.PERMISSION_DENIED
            : (STATUS_OF_EXIT[error.exit] ?? Status.INTERNAL),
        details: encodable(error.message),
        metadata,
    };
}
/** What a failed call means to the caller; `peer` names the other side, `isAborted` says that this side gave up. */
export function errorOf(error, peer, isAborted) {
    const named = error.metadata?.get(CODE_KEY)[0];
    if (isErrorCode(named))
        return new AfterimageError(named, error.details, { cause: error });
    const [code, message] = meaning(error, peer, isAborted);
    return new AfterimageError(code, message, { cause: error });
}
/** Statuses without our code were made by gRPC itself, on this side or the other. */
function meaning(error, peer, isAborted) {
    switch (error.code) {
        case Status.UNAVAILABLE:
            return ['DAEMON_UNREACHABLE', `${peer} does not answer: ${error.details}`];
        case Status.DEADLINE_EXCEEDED:
            return ['DAEMON_TIMEOUT', `${peer} did not answer in time`];
        case Status.CANCELLED:
            if (isAborted)
                return ['INTERRUPTED', `the call to ${peer} was cancelled`];
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
function encodable(message) {
    return Buffer.from(message.slice(0, MESSAGE_CHARACTERS_MAX), 'utf8').toString('utf8');
}
//# sourceMappingURL=rpc_status.js.map