/** What a Hello must be, and whether its writer may write. */
import { PROTOCOL_VERSION } from '../proto/replication.js';
import { VOLUMES_MAX } from './session_limits.js';
const UUID_BYTES = 16;
const NAME_CHARACTERS_MAX = 255;
const ANCESTORS_MAX = 32;
/** What a segment's header can say of a volume: docs/FORMAT.md, "Volume entry". The journal refuses anything else. */
const BLOCK_BYTES = [512, 4096];
const VOLUME_BYTES_MAX = 2n ** 49n;
/** Of a reason: a code, as a rule. It goes into the catalog. */
export const REASON_CHARACTERS_MAX = 255;
/** Null: it is well-formed. Nothing in it is trusted before. */
export function helloFault(hello) {
    if (hello.protocol !== PROTOCOL_VERSION) {
        return {
            code: 'PROTOCOL_VERSION',
            message: `the agent speaks version ${hello.protocol}, this receiver ${PROTOCOL_VERSION}`,
        };
    }
    const invalid = (message) => ({ code: 'MESSAGE_INVALID', message });
    const identities = [hello.group, hello.member, hello.instance, ...hello.ancestors];
    if (identities.some((uuid) => uuid.length !== UUID_BYTES))
        return invalid('an identity is not 16 bytes');
    if (hello.epoch === 0n)
        return invalid('epoch 0');
    if (hello.ancestors.length > ANCESTORS_MAX)
        return invalid(`${hello.ancestors.length} ancestors`);
    if ([hello.groupName, hello.host].some((name) => name === '' || name.length > NAME_CHARACTERS_MAX)) {
        return invalid('a name is empty or too long');
    }
    const { volumes } = hello;
    if (volumes.length === 0 || volumes.length > VOLUMES_MAX)
        return invalid(`${volumes.length} volumes`);
    if (new Set(volumes.map(({ number }) => number)).size !== volumes.length)
        return invalid('a volume twice');
    return volumes.every(isValid) ? null : invalid('a volume is not what a volume can be');
}
function isValid({ number, uuid, name, size, blockSize }) {
    return (number < VOLUMES_MAX &&
        uuid.length === UUID_BYTES &&
        name !== '' &&
        name.length <= NAME_CHARACTERS_MAX &&
        BLOCK_BYTES.includes(blockSize) &&
        size > 0n &&
        size <= VOLUME_BYTES_MAX &&
        size % BigInt(blockSize) === 0n);
}
/**
 * The fence: one writer a member. A lower epoch is a writer that was replaced; the same epoch in another process is a
 * copy of its state.
 */
export function fence(hello, writer) {
    if (writer === null || hello.epoch > writer.epoch)
        return null;
    if (hello.epoch === writer.epoch && hello.instance.equals(writer.instance))
        return null;
    return {
        code: 'FENCED',
        message: hello.epoch < writer.epoch
            ? `epoch ${hello.epoch}, but epoch ${writer.epoch} has written since`
            : `epoch ${hello.epoch} belongs to another process`,
    };
}
/**
 * Whether the process of `hello` is that of `writer`, or has its state from it. If not, somebody wrote of whose changes no
 * dirty log of this one knows.
 */
export function isHeirOf({ instance, ancestors }, writer) {
    return [instance, ...ancestors].some((process) => process.equals(writer.instance));
}
//# sourceMappingURL=hello.js.map