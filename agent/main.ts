/**
 * The agent of a protected host, put together: configuration in, volumes served and replicated until a signal. Nothing
 * is decided here.
 */
import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { toAfterimageError } from '../proto/errors.js';
import type { AgentStatus } from '../proto/control.js';
import { MetricsServer } from '../service/metrics_server.js';
import { AuditLog } from '../service/audit_log.js';
import { collectSeldom } from '../service/heap.js';
import { createLog, type Log } from '../service/log.js';
import { watchdogMs } from '../service/service_manager.js';
import { aborted, type StopSignals } from '../service/signals.js';
import * as native from '../native/index.js';
import { systemClock } from './clock.js';
import type { AgentConfig, GroupConfig } from './config.js';
import { UNMARK_AFTER_MS } from './served_bounds.js';
import { AgentControl, type StatusHead } from './control.js';
import { lockDirectory } from './directory.js';
import { JoinedEndpoint, plainEndpoint } from './endpoint.js';
import { endAll } from './endings.js';
import { agentMetrics, readiness, type AgentLook } from './metrics.js';
import { ProtectionGroup, type GroupSurroundings } from './group.js';
import { ProtectionGroups } from './groups.js';
import { Reload } from './reload.js';
import { LINK_DIR } from './stable_link.js';
import type { Succession } from './succession.js';
import type { TakenGroup } from './takeover.js';
import { Watchdog } from './watchdog.js';

const INSTANCE_BYTES = 16;

/** What a test may replace. */
export interface AgentOverrides {
  log?: Log;
  linkDir?: string;
}

/** After an error that would end an agent which serves nothing yet. */
const START_AGAIN_MS = 5_000;

/**
 * Protects what the configuration says until `signals` tells to stop. What a predecessor served is served already
 * (`succession`); then nothing that is wrong with the configuration, the state directory or the sockets ends the process: it
 * is tried again. Resolves when everything is detached and closed. Errors: those of `load`, STATE_BUSY, LISTEN_BUSY,
 * LISTEN_FAILED, PERMISSION_DENIED, IO_ERROR, and when no group starts those of ProtectionGroup.start.
 */
export async function runAgent(
  load: () => Promise<AgentConfig>,
  signals: StopSignals,
  version: string,
  succession: Succession,
  overrides: AgentOverrides = {},
): Promise<void> {
  const log = overrides.log ?? createLog('agent', 'info');
  const { taken } = succession;
  if (succession.isHopeless) return succession.serveOnly(signals);
  try {
    for (;;) {
      try {
        return await serve(load, taken, signals, version, overrides);
      } catch (thrown) {
        if (taken.size === 0 || signals.drain.aborted) throw thrown;
        log.fatal({ err: toAfterimageError(thrown) }, 'production is served and not protected');
        await systemClock.sleep(START_AGAIN_MS, signals.drain).catch(() => undefined);
      }
    }
  } finally {
    await succession.end(signals.end);
  }
}

/** `taken` loses the groups that were started: they belong to those. */
async function serve(
  load: () => Promise<AgentConfig>,
  taken: Map<string, TakenGroup>,
  signals: StopSignals,
  version: string,
  overrides: AgentOverrides,
): Promise<void> {
  collectSeldom();
  const config = await load();
  const log = overrides.log ?? createLog('agent', config.logLevel);
  const locks: number[] = [];
  const host = hostname();
  const receiver =
    'plain' in config.receiver
      ? plainEndpoint(config.receiver.plain)
      : new JoinedEndpoint(config.identityFile, config.receiver.joined, systemClock, log);
  const surroundings: Omit<GroupSurroundings, 'log'> = {
    door: native,
    receiver,
    stateDir: config.stateDir,
    spoolDir: config.groups.find(({ spool }) => spool !== null)?.spool?.directory ?? null,
    places: { runDir: config.runDir, linkDir: overrides.linkDir ?? LINK_DIR },
    host,
    software: `afterimage ${version}`,
    instance: randomBytes(INSTANCE_BYTES),
    clock: systemClock,
    end: signals.end,
  };
  const start = async (group: GroupConfig): Promise<ProtectionGroup> => {
    const around = { ...surroundings, log: log.child({ group: group.name }) };
    const started = await ProtectionGroup.start(group, around, taken.get(group.name) ?? null);
    taken.delete(group.name);
    return started;
  };
  const groups = new ProtectionGroups([...config.groups, ...forgotten(config, taken, log)], start, {
    host,
    clock: systemClock,
    log,
    drain: signals.drain,
    end: signals.end,
    isServing: taken.size > 0,
    taken: (group) => taken.get(group)?.claimed ?? [],
  });
  // Opened by the first entry: a disk that hangs keeps nothing from being served.
  const audit = new AuditLog(path.join(config.stateDir, 'audit.log'), log);
  const watchdog = new Watchdog(watchdogMs(process.env, process.pid), {
    volumes: () => groups.activities(),
    notify: native.notifyServiceManager,
    nowMs: () => systemClock.monotonicMs(),
    log,
  });
  const head = (): StatusHead => ({ version, host, receiver: receiver.name });
  const status = (): AgentStatus => ({
    ...head(),
    connected: groups.isConnected,
    groups: groups.status(),
    rssBytes: BigInt(process.memoryUsage.rss()),
  });
  const look = (): AgentLook => ({
    status: status(),
    volumes: groups.latencies(),
    certificateUntilMs: receiver.untilMs,
  });
  const metrics = new MetricsServer(
    agentMetrics(() => Promise.resolve(look())),
    { live: () => watchdog.checks(), ready: () => readiness(status()) },
    log,
  );
  const control = new AgentControl(head, groups, systemClock, () => process.memoryUsage.rss(), audit);
  try {
    // Of the run directory too: leftovers that lie there must be those of a dead process.
    for (const directory of new Set([config.stateDir, config.runDir]))
      locks.push(await lockDirectory(directory));
    // Before any volume is served: what is wrong with the socket must not take one away again.
    await control.listen(config.control);
    receiver.start();
    if (config.metrics !== null) void metrics.start(config.metrics);
    await groups.start();
    native.notifyServiceManager('READY=1');
    watchdog.start();
    const reload = new Reload(load, config, groups, native.notifyServiceManager, log);
    signals.onReload?.(() => void reload.run());
    await aborted(signals.drain);
    log.info('stopping');
  } finally {
    // What stays open keeps the process from ending, and the next agent out of its directories.
    await endAll(
      () => [groups.stop()],
      () => [control.stop(), receiver.stop(), metrics.close()],
      () => [audit.close()],
    ).finally(() => {
      watchdog.stop();
      for (const lock of locks) closeSync(lock);
    });
  }
}

/** Groups that are served and that the configuration does not name any more: they go on until the agent stops. */
function forgotten(config: AgentConfig, taken: ReadonlyMap<string, TakenGroup>, log: Log): GroupConfig[] {
  return [...taken.values()]
    .filter(({ settings }) => !config.groups.some(({ name }) => name === settings.name))
    .map(({ settings, configs }) => {
      const { name, ringBytes, lingerUs, unmarkAfterMs } = settings;
      log.warn(
        { group: name },
        'the configuration does not name the group any more: it goes on until a stop',
      );
      return {
        name,
        ringBytes,
        lingerUs,
        unmarkAfterMs: unmarkAfterMs ?? UNMARK_AFTER_MS,
        spool: null,
        resyncRateMax: null,
        volumes: configs,
      };
    });
}
