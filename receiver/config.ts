/** /etc/afterimage/receiver.toml */
import path from 'node:path';
import { z } from 'zod';
import {
  absolutePath,
  byteSize,
  duration,
  loadConfig,
  logLevel,
  loopbackListenAddress,
  socketPath,
} from '../service/config.js';

const MIB = 1024n * 1024n;
/** Bounds of native/journal/segment.h: an index entry reaches no further than 64 MiB into a segment. */
const SEGMENT_BYTES_MIN = 4n * MIB;
const SEGMENT_BYTES_MAX = 64n * MIB;

const DAY_NS = 86_400_000_000_000n;
const scrub = z.strictObject({
  enabled: z.boolean().prefault(true),
  every: duration(1_000_000_000n, 3650n * DAY_NS).prefault('7d'),
  rate_max: byteSize(MIB, MIB * MIB).prefault('32MiB'),
});

export const receiverConfigSchema = z
  .strictObject({
    store: absolutePath.prefault('/var/lib/afterimage/store'),
    listen: loopbackListenAddress.prefault('127.0.0.1:7443'),
    run_dir: absolutePath.prefault('/run/afterimage'),
    control: socketPath.optional(),
    log_level: logLevel.prefault('info'),
    scratch_dir: absolutePath.optional(),
    segment_bytes: byteSize(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).prefault('64MiB'),
    scrub: scrub.prefault({}),
  })
  .transform(({ store, listen, run_dir, control, log_level, scratch_dir, segment_bytes, scrub }) => ({
    /** Directory made by `afterimage receiver init`. */
    store,
    listen,
    runDirectory: run_dir,
    /** The control socket. */
    control: control ?? path.join(run_dir, 'receiver.sock'),
    logLevel: log_level,
    /** For the overlays of writable exports. */
    scratchDirectory: scratch_dir ?? path.join(store, 'scratch'),
    /** Size of a journal segment, bytes. */
    segmentBytes: segment_bytes,
    /** When everything is read again by itself. */
    scrub: { everyNs: scrub.enabled ? scrub.every : null, rateMax: scrub.rate_max },
  }));

export type ReceiverConfig = z.output<typeof receiverConfigSchema>;

/** Errors: CONFIG_MISSING, CONFIG_INVALID, ADDRESS_NOT_LOOPBACK, PERMISSION_DENIED. */
export function loadReceiverConfig(file: string): Promise<ReceiverConfig> {
  return loadConfig(file, receiverConfigSchema);
}
