/**
 * The agent of a protected host, put together: configuration in, volumes served and replicated until a signal. Nothing
 * is decided here.
 */
import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import { hostname } from 'node:os';
import { toAfterimageError } from '../proto/errors.js';
import { formatAddress } from '../service/config.js';
import { createLog, type Log } from '../service/log.js';
import { aborted, type StopSignals } from '../service/signals.js';
import * as native from '../native/index.js';
import { systemClock } from './clock.js';
import type { AgentConfig, GroupConfig } from './config.js';
import { AgentControl } from './control.js';
import { lockDirectory } from './directory.js';
import { endAll } from './endings.js';
import { ProtectionGroup, type GroupSurroundings } from './group.js';
import { ProtectionGroups } from './groups.js';
import { sortInheritance } from './inheritance.js';
import { LONG_LIFE_MS, ShortLives } from './short_lives.js';
import { LINK_DIR } from './stable_link.js';
import { letGo, takeOver, type TakenGroup } from './takeover.js';

const INSTANCE_BYTES = 16;

/** What a test may replace. */
export interface AgentOverrides {
  log?: Log;
  linkDir?: string;
}

/** After an error that would end an agent which serves nothing yet. */
const START_AGAIN_MS = 5_000;
/** What a restart or an upgrade sends: see handOver(). */
const HAND_OVER_SIGNAL = 'SIGUSR2';

/**
 * Protects what the configuration says until `signals` tells to stop. Serves first what a predecessor served; then nothing
 * that is wrong with the configuration, the state directory or the sockets ends the process: it is tried again. Resolves
 * when everything is detached and closed. Errors: those of `load`, STATE_BUSY, LISTEN_BUSY, LISTEN_FAILED,
 * PERMISSION_DENIED, IO_ERROR, and when no group starts those of ProtectionGroup.start.
 */
export async function runAgent(
  load: () => Promise<AgentConfig>,
  signals: StopSignals,
  version: string,
  overrides: AgentOverrides = {},
): Promise<void> {
  const log = overrides.log ?? createLog('agent', 'info');
  for (const warning of native.protectIoProcess()) log.warn({ warning }, 'the I/O path is less protected');
  // An exception that nobody caught would end the process, and with it the threads that serve production (R7). It is not
  // one of a group's session: those are caught where they are thrown, and cost the session (member.ts).
  const onDefect = (error: unknown): void => log.fatal({ err: error }, 'a defect: please report it');
  process.on('uncaughtException', onDefect);
  const { lives, rest } = ShortLives.begin(native.takeStoredDescriptors(), native);
  const onHandOver = (): void => handOver(lives, log);
  process.on(HAND_OVER_SIGNAL, onHandOver);
  const livesLong = setTimeout(() => lives.end(), LONG_LIFE_MS).unref();
  const taken = new Map<string, TakenGroup>();
  try {
    for (const group of await takeOverAll(rest, lives, log, signals.end))
      taken.set(group.settings.name, group);
    lives.serving();
    if (lives.isHopeless) {
      clearTimeout(livesLong);
      log.fatal(`${lives.text}: this one only serves, and protects nothing, until ${HAND_OVER_SIGNAL}`);
      // Threads and signals alone do not keep Node from ending the process.
      const staying = setInterval(() => undefined, LONG_LIFE_MS);
      return await aborted(signals.drain).finally(() => clearInterval(staying));
    }
    for (;;) {
      try {
        return await serve(await load(), taken, signals, version, overrides);
      } catch (thrown) {
        if (taken.size === 0 || signals.drain.aborted) throw thrown;
        log.fatal({ err: toAfterimageError(thrown) }, 'production is served and not protected');
        await systemClock.sleep(START_AGAIN_MS, signals.drain).catch(() => undefined);
      }
    }
  } finally {
    await endAll(() => [...taken.values()].map((group) => letGo(group, signals.end))).finally(() => {
      lives.end();
      clearTimeout(livesLong);
      process.off('uncaughtException', onDefect);
      process.off(HAND_OVER_SIGNAL, onHandOver);
    });
  }
}

/** Serves what a predecessor served: before anything else is read that could be wrong. */
async function takeOverAll(
  descriptors: readonly native.StoredDescriptor[],
  lives: ShortLives,
  log: Log,
  end: AbortSignal,
): Promise<TakenGroup[]> {
  const { groups, useless } = sortInheritance(descriptors);
  if (lives.isRingSuspect) {
    log.fatal(`${lives.text}: what they had captured and not sent is given up`);
    for (const group of groups) group.isRingSuspect = true;
  }
  const taken = await Promise.all(
    groups.map((group) =>
      takeOver(group, native, systemClock, log.child({ group: group.settings.name }), end),
    ),
  );
  for (const { name, reason, isWorthless } of useless) {
    log.error({ descriptor: name, reason }, 'a descriptor that a predecessor left is of no use');
    if (isWorthless) native.forgetDescriptor(name);
  }
  return taken;
}

/**
 * Ends this process for a successor, which the service manager starts with what is in its store. Nothing is done in good
 * order on purpose: what a killed agent leaves must be enough anyway, and this way it is tried at every upgrade.
 */
function handOver(lives: ShortLives, log: Log): void {
  if (!native.hasServiceManager()) {
    log.error(`${HAND_OVER_SIGNAL}: there is no service manager that would start a successor`);
    return;
  }
  log.info('handing over to a successor');
  lives.end();
  process.kill(process.pid, 'SIGKILL');
}

/** `taken` loses the groups that were started: they belong to those. */
async function serve(
  config: AgentConfig,
  taken: Map<string, TakenGroup>,
  signals: StopSignals,
  version: string,
  overrides: AgentOverrides,
): Promise<void> {
  const log = overrides.log ?? createLog('agent', config.logLevel);
  const locks: number[] = [];
  const head = { version, host: hostname(), receiver: formatAddress(config.receiver) };
  const surroundings: Omit<GroupSurroundings, 'log'> = {
    door: native,
    receiver: config.receiver,
    stateDir: config.stateDir,
    spoolDir: config.groups.find(({ spool }) => spool !== null)?.spool?.directory ?? null,
    places: { runDir: config.runDir, linkDir: overrides.linkDir ?? LINK_DIR },
    host: head.host,
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
    host: head.host,
    clock: systemClock,
    log,
    drain: signals.drain,
    isServing: taken.size > 0,
  });
  const control = new AgentControl(head, groups, systemClock, () => process.memoryUsage.rss());
  try {
    // Of the run directory too: leftovers that lie there must be those of a dead process.
    for (const directory of new Set([config.stateDir, config.runDir]))
      locks.push(await lockDirectory(directory));
    // Before any volume is served: what is wrong with the socket must not take one away again.
    await control.listen(config.control);
    await groups.start();
    if (native.hasServiceManager()) native.tellServiceManager('READY=1');
    await aborted(signals.drain);
    log.info('stopping');
  } finally {
    // What stays open keeps the process from ending, and the next agent out of its directories.
    await endAll(
      () => [groups.stop()],
      () => [control.stop()],
    ).finally(() => {
      for (const lock of locks) closeSync(lock);
    });
  }
}

/** Groups that are served and that the configuration does not name any more: they go on until the agent stops. */
function forgotten(config: AgentConfig, taken: ReadonlyMap<string, TakenGroup>, log: Log): GroupConfig[] {
  return [...taken.values()]
    .filter(({ settings }) => !config.groups.some(({ name }) => name === settings.name))
    .map(({ settings, volumes }) => {
      const { name, ringBytes, lingerUs } = settings;
      log.warn(
        { group: name },
        'the configuration does not name the group any more: it goes on until a stop',
      );
      return {
        name,
        ringBytes,
        lingerUs,
        spool: null,
        resyncRateMax: null,
        volumes: volumes.map((volume) => volume.config),
      };
    });
}
