/** The receiver: composition only. Every part is made here and handed what it needs. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import * as native from '../native/index.js';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { AuditLog } from '../service/audit_log.js';
import { collectSeldom } from '../service/heap.js';
import { createLog, type Log } from '../service/log.js';
import { assembleInto, MessageMemory } from '../service/message_assembly.js';
import { MetricsServer } from '../service/metrics_server.js';
import { watchdogMs } from '../service/service_manager.js';
import { aborted, type StopSignals } from '../service/signals.js';
import { formatFingerprint } from '../service/token.js';
import { Authority } from './authority.js';
import { BaseAccess } from './base_access.js';
import { BaseDamage } from './base_damage.js';
import { Catalog } from './catalog/catalog.js';
import { retentionOf, type ReceiverConfig } from './config.js';
import { clearExportLeftovers } from './export_leftovers.js';
import { Exports } from './exports.js';
import { Identities } from './identities.js';
import { DamageWatch } from './journal/damage_watch.js';
import { RunBuilds } from './journal/runs.js';
import { Members, type Member } from './members.js';
import { readiness, receiverMetrics } from './metrics.js';
import { Network } from './network.js';
import { Points } from './points.js';
import { Recovery } from './recovery/recovery.js';
import type { RollStage } from './retention/base_roll.js';
import { Reload } from './reload.js';
import { Retention } from './retention/retention.js';
import { RunningTime } from './retention/running_time.js';
import { ScrubSchedule } from './scrub/schedule.js';
import { Scrub } from './scrub/scrub.js';
import { ReceiverSession } from './session.js';
import { SessionStore } from './session_store.js';
import { Store } from './store.js';
import { StoreRoom } from './store_room.js';

/** How often positions are written to the catalog. */
const PERSIST_MS = 1000;
const HELLO_MS = 10_000;
/** Streams of agents at once; one more is refused. */
const SESSIONS_MAX = 1024;
const SWEEP_MS = 10_000;
/** How often retention looks what may go. */
const RETENTION_MS = 1000;
/** How often it is looked whether a scrub is due. */
const SCRUB_LOOK_MS = 60_000;
/** How long calls under way may take when the receiver drains. */
const GRACE_MS = 5000;
/** Where no service manager watches. */
const IDLE_MS = 60_000;
const NS_PER_MS = 1_000_000n;

/** What a test may replace. */
export interface ReceiverOverrides {
  log?: Log;
  helloMs?: number;
  retentionMs?: number;
  /** Called, and awaited, between the steps of a roll-forward. */
  atRollStage?: (stage: RollStage) => Promise<void> | void;
  scrubLookMs?: number;
  sessionsMax?: number;
  /** Between looks at who of those who are connected has gone. */
  sweepMs?: number;
}

/**
 * Runs a receiver until `signals.drain` is aborted, then closes sessions, exports and journals; `signals.end` cuts that
 * short, and loses nothing that was acknowledged. `load` gives the configuration when it is to be read again: how long history is held
 * may change then. Errors: STORE_*, LISTEN_*, PERMISSION_DENIED.
 */
export async function runReceiver(
  config: ReceiverConfig,
  signals: StopSignals,
  version: string,
  overrides: ReceiverOverrides = {},
  load: () => Promise<ReceiverConfig> = () => Promise.resolve(config),
): Promise<void> {
  const log = overrides.log ?? createLog('receiver', config.logLevel);
  const store = await Store.open(config.store, native.lockFile);
  const { catalog, authority, audit } = await openParts(store, log).catch((thrown: unknown) => {
    store.close();
    throw thrown;
  });
  const reload = new Reload(config, load, log);
  signals.onReload?.(() => void reload.run());
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
  const retention = new Retention({
    catalog,
    store,
    members,
    points,
    access,
    native: watched,
    settings: (group) => retentionOf(reload.present, group),
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
  const identities = new Identities({ catalog, authority, nowNs, lifetimeMs: config.certificateLifetimeMs });
  const memory = new MessageMemory();
  assembleInto(memory);
  collectSeldom();
  const network = new Network({
    ...{ catalog, identities, audit, log },
    store: store.uuid,
    sessionsMax: overrides.sessionsMax ?? SESSIONS_MAX,
    sweepMs: overrides.sweepMs ?? SWEEP_MS,
    replication: {
      ...{ catalog, store, points, access, baseDamage, room, members, log },
      sessions: new SessionStore(catalog, nowNs),
      memory,
      native: watched,
      newMachine: () => new ReceiverSession(`afterimage ${version}`),
      helloMs: overrides.helloMs ?? HELLO_MS,
      ownerOf: (peer, hello) => identities.checkWriter(peer, hello),
    },
    control: {
      ...{ version, store, catalog, members, exports, retention, scrub, nowNs, points, recovery },
      recoveryDirectory: config.recoveryDirectory,
      scrubRateMax: config.scrub.rateMax,
      stopping: signals.drain,
    },
  });

  const metrics = new MetricsServer(
    receiverMetrics(async () => ({
      status: await network.status(),
      receivedBytes: members.receivedBytes(),
      identities: {
        host: catalog.identities.all('host').filter(({ revokedNs }) => revokedNs === null).length,
        operator: catalog.identities.all('operator').filter(({ revokedNs }) => revokedNs === null).length,
      },
      connections: network.connectionCounts(),
    })),
    { live: () => [{ name: 'event loop', fault: null }], ready: () => readiness(members.faults()) },
    log,
  );
  const patienceMs = watchdogMs(process.env, process.pid);
  // As long as the event loop turns: a disk that hangs is not mended by another process.
  const alive = setInterval(() => native.notifyServiceManager('WATCHDOG=1'), (patienceMs ?? IDLE_MS) / 3);
  const persisting = setInterval(() => {
    members.refreshAll();
    watch.askOpenPoints();
  }, PERSIST_MS);
  try {
    await clearExportLeftovers(config.runDirectory, native.detachLoop, log);
    await members.openAll();
    baseDamage.lookForLost();
    retention.start();
    const addresses = await network.listen(config);
    scrubs.start();
    if (config.metrics !== null) void metrics.start(config.metrics);
    native.notifyServiceManager('READY=1');
    log.info({ store: store.directory, ...addresses, control: config.control }, 'receiver ready');
    await aborted(signals.drain);
    network.drain();
    log.info('receiver draining');
  } finally {
    const drained = drain();
    await Promise.race([drained, aborted(signals.end)]);
  }

  async function drain(): Promise<void> {
    await network.stopReplication(GRACE_MS);
    await metrics.close();
    await exports.stopAll();
    await network.stop(GRACE_MS);
    await audit.close();
    await retention.stop();
    await scrubs.stop();
    await runs.close();
    await watch.idle();
    await baseDamage.idle();
    clearInterval(persisting);
    clearInterval(alive);
    await members.close();
    catalog.close();
    store.close();
    log.info('receiver stopped');
  }
}

interface StoreParts {
  catalog: Catalog;
  authority: Authority;
  audit: AuditLog;
}

/** Errors: STORE_VERSION, STORE_INVALID, AUTHORITY_*, PERMISSION_DENIED, DISK_FULL, IO_ERROR. */
async function openParts(store: Store, log: Log): Promise<StoreParts> {
  const catalog = Catalog.open(store.catalogFile);
  try {
    const authority = await openAuthority(store, catalog, log);
    const audit = new AuditLog(store.auditFile, log);
    // Recovery must not wait for it: the next entry tries again.
    await audit
      .open()
      .catch((thrown: unknown) => log.error({ err: toAfterimageError(thrown) }, 'the audit log is not open'));
    return { catalog, authority, audit };
  } catch (thrown) {
    catalog.close();
    throw thrown;
  }
}

/**
 * Of a store that was made before there were any it is made now. Errors: AUTHORITY_MISSING,
 * AUTHORITY_INVALID, PERMISSION_DENIED, DISK_FULL, IO_ERROR.
 */
async function openAuthority(store: Store, catalog: Catalog, log: Log): Promise<Authority> {
  const found = await Authority.open(store.authorityFile);
  if (found !== null) return found;
  // Whoever has joined would find a stranger here.
  if (catalog.identities.all('host').length + catalog.identities.all('operator').length > 0)
    throw new AfterimageError(
      'AUTHORITY_MISSING',
      `${store.authorityFile} is gone, and hosts or operators have joined`,
    );
  const made = await Authority.generate(store.uuid);
  await made.write(store.authorityFile);
  log.warn(
    { fingerprint: formatFingerprint(made.fingerprint) },
    'the store had no authority: a new one was made',
  );
  return made;
}
