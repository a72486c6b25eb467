/** The receiver: composition only. Every part is made here and handed what it needs. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import * as native from '../native/index.js';
import { receiverControlService } from '../proto/control.js';
import { createLog, type Log } from '../service/log.js';
import { RpcServer } from '../service/rpc.js';
import { formatAddress } from '../service/settings.js';
import { aborted, type StopSignals } from '../service/signals.js';
import { BaseAccess } from './base_access.js';
import { BaseDamage } from './base_damage.js';
import { Catalog } from './catalog/catalog.js';
import { retentionOf, type ReceiverConfig } from './config.js';
import { controlHandlers } from './control.js';
import { clearExportLeftovers } from './export_leftovers.js';
import { Exports } from './exports.js';
import { FrameBuffers } from './frame_buffers.js';
import { DamageWatch } from './journal/damage_watch.js';
import { RunBuilds } from './journal/runs.js';
import { Members, type Member } from './members.js';
import { Points } from './points.js';
import { Recovery } from './recovery/recovery.js';
import type { RollStage } from './retention/base_roll.js';
import { Retention } from './retention/retention.js';
import { RunningTime } from './retention/running_time.js';
import { ScrubSchedule } from './scrub/schedule.js';
import { Scrub } from './scrub/scrub.js';
import { ReplicationServer } from './server.js';
import { ReceiverSession } from './session.js';
import { SessionStore } from './session_store.js';
import { Store } from './store.js';
import { StoreRoom } from './store_room.js';

/** How often positions are written to the catalog. */
const PERSIST_MS = 1000;
const HELLO_MS = 10_000;
/** How often retention looks what may go. */
const RETENTION_MS = 1000;
/** How often it is looked whether a scrub is due. */
const SCRUB_LOOK_MS = 60_000;
/** How long calls under way may take when the receiver drains. */
const GRACE_MS = 5000;
const NS_PER_MS = 1_000_000n;

/** What a test may replace. */
export interface ReceiverOverrides {
  log?: Log;
  helloMs?: number;
  retentionMs?: number;
  /** Called, and awaited, between the steps of a roll-forward. */
  atRollStage?: (stage: RollStage) => Promise<void> | void;
  scrubLookMs?: number;
}

/**
 * Runs a receiver until `signals.drain` is aborted, then closes sessions, exports and journals; `signals.end` cuts that
 * short, and loses nothing that was acknowledged. Errors: STORE_*, LISTEN_*, PERMISSION_DENIED.
 */
export async function runReceiver(
  config: ReceiverConfig,
  signals: StopSignals,
  version: string,
  overrides: ReceiverOverrides = {},
): Promise<void> {
  const log = overrides.log ?? createLog('receiver', config.logLevel);
  const store = await Store.open(config.store, native.lockFile);
  const catalog = Catalog.open(store.catalogFile);
  const nowNs = (): bigint => BigInt(Date.now()) * NS_PER_MS;
  const elapsedMs = (): number => performance.now();

  const member = (uuid: string): Member | null => members.get(uuid);
  const onBaseDamage = (file: string, offsets: readonly bigint[]): void => baseDamage.found(file, offsets);
  const onBaseLost = (file: string): void => baseDamage.lost(file);
  const access = new BaseAccess();
  const onBase = { onBaseDamage, onBaseLost };
  const watch = new DamageWatch({ catalog, store, access, native, member, ...onBase, log });
  const watched = { ...native, ...watch.native };
  const runs = new RunBuilds({ catalog, store, log, buildRun: watched.buildRun });
  const { segmentBytes } = config;
  const room = await StoreRoom.measure(store.directory, segmentBytes);
  const { headroomBytes } = room;
  const journals = { catalog, store, access, native: watched, runs, log, segmentBytes, headroomBytes };
  const members: Members = new Members(journals, elapsedMs);
  const points = new Points({ catalog, store, native: watched, journals: members, access, nowNs });
  const baseDamage: BaseDamage = new BaseDamage({
    ...{ catalog, store, access, native, log },
    // Not watched: what they find is known already.
    points: new Points({ catalog, store, native, journals: members, access, nowNs }),
    journal: (uuid) => member(uuid)?.damaged ?? null,
  });
  const exports = new Exports({
    points,
    native: watched,
    scratchDirectory: config.scratchDirectory,
    runDirectory: config.runDirectory,
    nowNs,
    elapsedUs: () => performance.now() * 1000,
    newId: () => randomBytes(4).toString('hex'),
    log,
  });
  const recovery = new Recovery({
    points,
    native: watched,
    storeDirectory: store.directory,
    runDirectory: config.runDirectory,
    elapsedMs,
    log,
  });
  const replication = new ReplicationServer({
    catalog,
    store,
    sessions: new SessionStore(catalog, nowNs),
    points,
    access,
    baseDamage,
    room,
    buffers: new FrameBuffers(),
    native: watched,
    members,
    log,
    newMachine: () => new ReceiverSession(`afterimage ${version}`),
    helloMs: overrides.helloMs ?? HELLO_MS,
  });
  const retention = new Retention({
    catalog,
    store,
    members,
    points,
    access,
    native: watched,
    settings: (group) => retentionOf(config, group),
    time: new RunningTime(catalog.windows, elapsedMs),
    room,
    segmentBytes,
    roundMs: overrides.retentionMs ?? RETENTION_MS,
    sleep: (ms) => sleep(ms),
    atStage: overrides.atRollStage ?? (() => undefined),
    log,
  });
  const scrub = new Scrub({
    catalog,
    store,
    access,
    native,
    watch,
    baseDamage,
    nowNs,
    nowMs: elapsedMs,
    sleep: (ms) => sleep(ms),
    log,
  });
  const lookMs = overrides.scrubLookMs ?? SCRUB_LOOK_MS;
  const scrubs = new ScrubSchedule({
    ...{ catalog, scrub, settings: config.scrub, lookMs, log },
    nowNs,
    nowMs: elapsedMs,
  });
  const control = new RpcServer();

  const persisting = setInterval(() => {
    members.refreshAll();
    watch.askOpenPoints();
  }, PERSIST_MS);
  try {
    await clearExportLeftovers(config.runDirectory, native.detachLoop, log);
    await members.openAll();
    baseDamage.lookForLost();
    retention.start();
    const listen = formatAddress(await replication.listen(config.listen));
    scrubs.start();
    const status = { version, listen, store, catalog, members, exports, retention, scrub, nowNs };
    control.add(
      receiverControlService,
      controlHandlers({
        ...status,
        points,
        recovery,
        scrubRateMax: config.scrub.rateMax,
        stopping: signals.drain,
      }),
    );
    await control.listenUnix(config.control);
    log.info({ store: store.directory, listen, control: config.control }, 'receiver ready');
    await aborted(signals.drain);
    log.info('receiver draining');
  } finally {
    const drained = drain();
    await Promise.race([drained, aborted(signals.end)]);
  }

  async function drain(): Promise<void> {
    await replication.stop(GRACE_MS);
    await exports.stopAll();
    await control.stop(GRACE_MS);
    await retention.stop();
    await scrubs.stop();
    await runs.close();
    await watch.idle();
    await baseDamage.idle();
    clearInterval(persisting);
    await members.close();
    catalog.close();
    store.close();
    log.info('receiver stopped');
  }
}
