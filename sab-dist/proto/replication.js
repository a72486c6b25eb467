import { codec } from './codec.js';
import { AfterimageError } from './errors.js';
export const PROTOCOL_VERSION = 1;
/** Free bytes that a frame's buffer has before the frame, for the protobuf tag and length. */
export const FRAME_HEADROOM_BYTES = 64;
/** Largest message on the stream: a frame (1280 KiB at most) or sync data, and change. */
export const MESSAGE_BYTES_MAX = 2 * 1024 * 1024;
/** Of one block in a HashReply: HMAC-SHA-256, keyed with the hash_key of Welcome. */
export const HASH_BYTES = 32;
/** Whether these are the very same volumes, in whatever order. Names do not count: the UUID is the identity. */
export function sameVolumes(a, b) {
    return (a.length === b.length &&
        a.every((volume) => b.some((other) => other.number === volume.number &&
            other.uuid.equals(volume.uuid) &&
            other.size === volume.size &&
            other.blockSize === volume.blockSize)));
}
const FRAME_TAG = (15 << 3) | 2; // field 15, length-delimited: one byte
const agentCodec = codec('AgentMessage');
const receiverCodec = codec('ReceiverMessage');
/** Encodes an agent's message. A frame is not copied: tag and length are written into its headroom. */
export function encodeAgentMessage(message) {
    if (!('frame' in message))
        return agentCodec.encode(message);
    const { buffer, headroom } = message.frame;
    let length = buffer.length - headroom;
    const varint = [];
    for (; length > 0x7f; length >>>= 7)
        varint.push((length & 0x7f) | 0x80);
    varint.push(length);
    const start = headroom - varint.length - 1;
    if (start < 0)
        throw new RangeError('a frame needs headroom for its tag and length');
    buffer[start] = FRAME_TAG;
    buffer.set(varint, start + 1);
    return buffer.subarray(start);
}
/** Decodes an agent's message. A frame's bytes share the message's memory. Errors: MESSAGE_INVALID. */
export function decodeAgentMessage(bytes) {
    if (bytes[0] !== FRAME_TAG)
        return only(agentCodec.decode(bytes), 'AgentMessage');
    let length = 0;
    let at = 1;
    for (let shift = 0;; shift += 7, at += 1) {
        const byte = bytes[at];
        if (byte === undefined || shift > 28)
            throw new AfterimageError('MESSAGE_INVALID', 'frame length is cut off');
        length += (byte & 0x7f) * 2 ** shift;
        if (byte < 0x80)
            break;
    }
    at += 1;
    if (bytes.length - at !== length) {
        throw new AfterimageError('MESSAGE_INVALID', `frame of ${length} bytes in a message that has ${bytes.length - at}`);
    }
    return { frame: { buffer: bytes.subarray(at), headroom: 0 } };
}
export function encodeReceiverMessage(message) {
    return receiverCodec.encode(message);
}
/** Errors: MESSAGE_INVALID. */
export function decodeReceiverMessage(bytes) {
    return only(receiverCodec.decode(bytes), 'ReceiverMessage');
}
/** Of a decoded oneof, the one member that is set, with the message's number. */
function only(decoded, name) {
    const key = decoded['body'];
    if (typeof key !== 'string')
        throw new AfterimageError('MESSAGE_INVALID', `${name} without a known body`);
    return { [key]: decoded[key], sequence: decoded['sequence'] };
}
const session = {
    path: '/afterimage.v1.Replication/Session',
    requestStream: true,
    responseStream: true,
    requestSerialize: encodeAgentMessage,
    requestDeserialize: decodeAgentMessage,
    responseSerialize: encodeReceiverMessage,
    responseDeserialize: decodeReceiverMessage,
    originalName: 'session',
};
/** service Replication { rpc Session(stream AgentMessage) returns (stream ReceiverMessage); } */
export const replicationService = { session };
//# sourceMappingURL=replication.js.map