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
  name,
  networkListenAddress,
  socketPath,
} from '../service/config.js';
import type { RetentionSettings } from './retention/policy.js';

const MIB = 1024n * 1024n;
/** Bounds of native/journal/segment.h: an index entry reaches no further than 64 MiB into a segment. */
const SEGMENT_BYTES_MIN = 4n * MIB;
const SEGMENT_BYTES_MAX = 64n * MIB;
const SECOND_NS = 1_000_000_000n;
const AGE_NS_MAX = 3650n * 24n * 3600n * SECOND_NS;
const TIB = MIB * MIB;

const age = duration(SECOND_NS, AGE_NS_MAX);
const journalBytes = byteSize(2n * SEGMENT_BYTES_MIN, 1024n * TIB);
const rate = byteSize(MIB, TIB);
/** As a group may have it: what it leaves out is as it is for all. */
const groupRetention = z.strictObject({
  window: age.optional(),
  floor: age.optional(),
  bytes_max: journalBytes.optional(),
  roll_forward_rate_max: rate.optional(),
});
const retention = z.strictObject({
  window: age.prefault('3d'),
  floor: age.prefault('4h'),
  bytes_max: journalBytes.optional(),
  roll_forward_rate_max: rate.prefault('64MiB'),
});
const group = z.strictObject({ name, retention: groupRetention.prefault({}) });

const scrub = z.strictObject({
  enabled: z.boolean().prefault(true),
  every: age.prefault('7d'),
  rate_max: rate.prefault('32MiB'),
});

export const receiverConfigSchema = z
  .strictObject({
    store: absolutePath.prefault('/var/lib/afterimage/store'),
    listen: networkListenAddress.prefault('0.0.0.0:7443'),
    listen_plain: loopbackListenAddress.optional(),
    certificate_lifetime: duration(60n * SECOND_NS, 825n * 24n * 3600n * SECOND_NS).prefault('90d'),
    recovery_dir: absolutePath.optional(),
    run_dir: absolutePath.prefault('/run/afterimage'),
    control: socketPath.optional(),
    metrics: loopbackListenAddress.optional(),
    log_level: logLevel.prefault('info'),
    scratch_dir: absolutePath.optional(),
    segment_bytes: byteSize(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).prefault('64MiB'),
    retention: retention.prefault({}),
    group: z.array(group).prefault([]),
    scrub: scrub.prefault({}),
  })
  .superRefine((config, context) => {
    const complain = (path: (string | number)[], message: string): void =>
      context.addIssue({ code: 'custom', path, message });
    const beyond = 'expected a floor no longer than the window';
    if (config.retention.floor > config.retention.window) complain(['retention', 'floor'], beyond);
    config.group.forEach(({ name, retention }, index) => {
      if (config.group.findIndex((other) => other.name === name) < index) {
        complain(['group', index, 'name'], `there is another group ${name}`);
      }
      const { windowNs: window, floorNs: floor } = retentionSettings(config.retention, retention);
      if (floor > window && config.retention.floor <= config.retention.window) {
        complain(['group', index, 'retention', retention.floor === undefined ? 'window' : 'floor'], beyond);
      }
    });
  })
  .transform(
    ({
      store,
      listen,
      listen_plain,
      certificate_lifetime,
      recovery_dir,
      run_dir,
      control,
      metrics,
      log_level,
      scratch_dir,
      segment_bytes,
      retention,
      group,
      scrub,
    }) => ({
      /** Directory made by `afterimage receiver init`. */
      store,
      /** By TLS. */
      listen,
      /** Without TLS and identity, on this machine alone; null: not at all. */
      listenPlain: listen_plain ?? null,
      /** Of hosts and operators. */
      certificateLifetimeMs: Number(certificate_lifetime / 1_000_000n),
      /** Where operators who are not on this machine may recover to; null: nowhere. */
      recoveryDirectory: recovery_dir ?? null,
      runDirectory: run_dir,
      /** The control socket. */
      control: control ?? path.join(run_dir, 'receiver.sock'),
      /** Where /metrics and the like are; null: nowhere. */
      metrics: metrics ?? null,
      logLevel: log_level,
      /** For the overlays of writable exports. */
      scratchDirectory: scratch_dir ?? path.join(store, 'scratch'),
      /** Size of a journal segment, bytes. */
      segmentBytes: segment_bytes,
      /** How long history is held, of groups that are not named. */
      retention: retentionSettings(retention),
      groups: group.map(({ name, retention: own }) => ({
        name,
        retention: retentionSettings(retention, own),
      })),
      /** When everything is read again by itself. */
      scrub: { everyNs: scrub.enabled ? scrub.every : null, rateMax: scrub.rate_max },
    }),
  );

export type ReceiverConfig = z.output<typeof receiverConfigSchema>;

/** `own`: of a group, before what holds for all. */
function retentionSettings(
  all: z.output<typeof retention>,
  own: z.output<typeof groupRetention> = {},
): RetentionSettings {
  return {
    windowNs: own.window ?? all.window,
    floorNs: own.floor ?? all.floor,
    bytesMax: own.bytes_max ?? all.bytes_max ?? null,
    rollForwardRateMax: own.roll_forward_rate_max ?? all.roll_forward_rate_max,
  };
}

/** How long history of the group is held. */
export function retentionOf({ groups, retention }: ReceiverConfig, group: string): RetentionSettings {
  return groups.find(({ name }) => name === group)?.retention ?? retention;
}

/** Errors: CONFIG_MISSING, CONFIG_INVALID, ADDRESS_NOT_LOOPBACK, PERMISSION_DENIED. */
export function loadReceiverConfig(file: string): Promise<ReceiverConfig> {
  return loadConfig(file, receiverConfigSchema);
}
