/**
 * What a receiver may claim of itself. The agent stores numbers above the receiver's own, and a number that has no room
 * above it would stay in its state for good.
 */
import { HASH_BYTES, PROTOCOL_VERSION, PROTOCOL_VERSION_OLDEST } from '../proto/replication.js';
import type { VolumeInfo, VolumeState, Welcome } from '../proto/replication.js';

/** Far above what any member can reach, and as far below what an u64 holds. */
const NUMBER_MAX = 2n ** 63n - 1n;
const HASH_KEY_BYTES = HASH_BYTES;

export interface Fault {
  code: string;
  message: string;
}

/** Null, or what is wrong with it. */
export function faultOfWelcome(welcome: Welcome, volumes: readonly VolumeInfo[]): Fault | null {
  const { generation, durableLsn, hashKey, protocol } = welcome;
  if (protocol !== 0 && (protocol < PROTOCOL_VERSION_OLDEST || protocol > PROTOCOL_VERSION))
    return { code: 'PROTOCOL_VERSION', message: `the receiver wants version ${protocol} of the session` };
  if (generation > NUMBER_MAX || durableLsn > NUMBER_MAX) {
    return { code: 'WATERMARK_INVALID', message: `generation ${generation} and LSN ${durableLsn} cannot be` };
  }
  if (hashKey.length !== HASH_KEY_BYTES) {
    return { code: 'MESSAGE_INVALID', message: `Welcome has a hash key of ${hashKey.length} bytes` };
  }
  return faultOfStates('Welcome', welcome.volumes, volumes);
}

/** The same of what `message` says of the member's volumes. */
export function faultOfStates(
  message: string,
  states: readonly VolumeState[],
  volumes: readonly VolumeInfo[],
): Fault | null {
  for (const { number, size, blockSize } of volumes) {
    const state = states.find((one) => one.number === number);
    if (state === undefined) return { code: 'SESSION_ORDER', message: `${message} lacks volume ${number}` };
    const { syncOffset } = state;
    if (syncOffset > size || syncOffset % BigInt(blockSize) !== 0n) {
      return {
        code: 'WATERMARK_INVALID',
        message: `${message} has volume ${number} synced up to ${syncOffset} of ${size} bytes`,
      };
    }
  }
  return null;
}
