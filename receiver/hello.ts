/** What a Hello must be, and whether its writer may write. */
import { commonProtocol, PROTOCOL_VERSION, PROTOCOL_VERSION_OLDEST } from '../proto/replication.js';
import type { Hello, VolumeInfo } from '../proto/replication.js';
import type { StoredWriter } from './session_events.js';
import { VOLUMES_MAX } from './session_limits.js';

/** Why a session is refused. */
export interface Refusal {
  code: string;
  message: string;
}

const UUID_BYTES = 16;
const NAME_CHARACTERS_MAX = 255;
const ANCESTORS_MAX = 32;
/** What a segment's header can say of a volume: docs/FORMAT.md, "Volume entry". The journal refuses anything else. */
const BLOCK_BYTES: readonly number[] = [512, 4096];
const VOLUME_BYTES_MAX = 2n ** 49n;
/** Of a reason: a code, as a rule. It goes into the catalog. */
export const REASON_CHARACTERS_MAX = 255;

/** Null: it is well-formed. Nothing in it is trusted before. */
export function helloFault(hello: Hello): Refusal | null {
  if (commonProtocol(hello) === null) {
    return {
      code: 'PROTOCOL_VERSION',
      message: `the agent speaks ${versions(hello.protocolOldest, hello.protocol)}, this receiver ${versions(PROTOCOL_VERSION_OLDEST, PROTOCOL_VERSION)}`,
    };
  }
  const invalid = (message: string): Refusal => ({ code: 'MESSAGE_INVALID', message });
  const identities = [hello.group, hello.member, hello.instance, ...hello.ancestors];
  if (identities.some((uuid) => uuid.length !== UUID_BYTES)) return invalid('an identity is not 16 bytes');
  if (hello.epoch === 0n) return invalid('epoch 0');
  if (hello.ancestors.length > ANCESTORS_MAX) return invalid(`${hello.ancestors.length} ancestors`);
  if ([hello.groupName, hello.host].some((name) => name === '' || name.length > NAME_CHARACTERS_MAX)) {
    return invalid('a name is empty or too long');
  }
  const { volumes } = hello;
  if (volumes.length === 0 || volumes.length > VOLUMES_MAX) return invalid(`${volumes.length} volumes`);
  if (new Set(volumes.map(({ number }) => number)).size !== volumes.length) return invalid('a volume twice');
  return volumes.every(isValid) ? null : invalid('a volume is not what a volume can be');
}

function versions(oldest: number, newest: number): string {
  return oldest === 0 || oldest === newest ? `version ${newest}` : `versions ${oldest} to ${newest}`;
}

function isValid({ number, uuid, name, size, blockSize }: VolumeInfo): boolean {
  return (
    number < VOLUMES_MAX &&
    uuid.length === UUID_BYTES &&
    name !== '' &&
    name.length <= NAME_CHARACTERS_MAX &&
    BLOCK_BYTES.includes(blockSize) &&
    size > 0n &&
    size <= VOLUME_BYTES_MAX &&
    size % BigInt(blockSize) === 0n
  );
}

/**
 * The fence: one writer a member. A lower epoch is a writer that was replaced; the same epoch in another process is a
 * copy of its state.
 */
export function fence(hello: Hello, writer: StoredWriter | null): Refusal | null {
  if (writer === null || hello.epoch > writer.epoch) return null;
  if (hello.epoch === writer.epoch && hello.instance.equals(writer.instance)) return null;
  return {
    code: 'FENCED',
    message:
      hello.epoch < writer.epoch
        ? `epoch ${hello.epoch}, but epoch ${writer.epoch} has written since`
        : `epoch ${hello.epoch} belongs to another process`,
  };
}

/**
 * Whether the member's journal has lost what its agent was told: the store is an older copy, or damaged. Which dirty log
 * it was told of last is forgotten with it, so that none can be believed.
 */
export function isBehind(
  { acceptedGeneration, durableLsn }: Pick<Hello, 'acceptedGeneration' | 'durableLsn'>,
  journal: { generation: bigint; durableLsn: bigint },
): boolean {
  return journal.generation < acceptedGeneration || journal.durableLsn < durableLsn;
}

/**
 * Whether the process of `hello` is that of `writer`, or has its state from it. If not, somebody wrote of whose changes no
 * dirty log of this one knows.
 */
export function isHeirOf({ instance, ancestors }: Hello, writer: Pick<StoredWriter, 'instance'>): boolean {
  return [instance, ...ancestors].some((process) => process.equals(writer.instance));
}
