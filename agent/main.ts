/**
 * The agent of a protected host, put together: configuration in, volumes served and replicated until a signal. Nothing
 * is decided here.
 */
import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import { hostname } from 'node:os';
import { formatAddress } from '../service/config.js';
import { createLog, type Log } from '../service/log.js';
import { aborted, type StopSignals } from '../service/signals.js';
import * as native from '../native/index.js';
import { systemClock } from './clock.js';
import type { AgentConfig } from './config.js';
import { AgentControl } from './control.js';
import { lockDirectory } from './directory.js';
import { endAll } from './endings.js';
import { ProtectionGroup, type GroupSurroundings } from './group.js';
import { ProtectionGroups } from './groups.js';

const LINK_DIR = '/dev/afterimage';
const INSTANCE_BYTES = 16;

/** What a test may replace. */
export interface AgentOverrides {
  log?: Log;
  linkDir?: string;
}

/**
 * Protects what `config` says until `signals` tells to stop. Resolves when everything is detached and closed. Errors:
 * STATE_BUSY, LISTEN_BUSY, LISTEN_FAILED, PERMISSION_DENIED, IO_ERROR, and when no group starts those of
 * ProtectionGroup.start.
 */
export async function runAgent(
  config: AgentConfig,
  signals: StopSignals,
  version: string,
  overrides: AgentOverrides = {},
): Promise<void> {
  const log = overrides.log ?? createLog('agent', config.logLevel);
  for (const warning of native.protectIoProcess()) log.warn({ warning }, 'the I/O path is less protected');
  const locks: number[] = [];
  const head = { version, host: hostname(), receiver: formatAddress(config.receiver) };
  const surroundings: Omit<GroupSurroundings, 'log'> = {
    door: native,
    receiver: config.receiver,
    stateDir: config.stateDir,
    places: { runDir: config.runDir, linkDir: overrides.linkDir ?? LINK_DIR },
    host: head.host,
    software: `afterimage ${version}`,
    instance: randomBytes(INSTANCE_BYTES),
    clock: systemClock,
    end: signals.end,
  };
  const groups = new ProtectionGroups(
    config.groups,
    (group) => ProtectionGroup.start(group, { ...surroundings, log: log.child({ group: group.name }) }),
    { host: head.host, clock: systemClock, log, drain: signals.drain },
  );
  // An exception that nobody caught would end the process, and with it the threads that serve production (R7). It is not
  // one of a group's session: those are caught where they are thrown, and cost the session (member.ts).
  const onDefect = (error: unknown): void => log.fatal({ err: error }, 'a defect: please report it');
  process.on('uncaughtException', onDefect);
  const control = new AgentControl(head, groups, systemClock, () => process.memoryUsage.rss());
  try {
    // Of the run directory too: leftovers that lie there must be those of a dead process.
    for (const directory of new Set([config.stateDir, config.runDir]))
      locks.push(await lockDirectory(directory));
    // Before any volume is served: what is wrong with the socket must not take one away again.
    await control.listen(config.control);
    await groups.start();
    await aborted(signals.drain);
    log.info('stopping');
  } finally {
    // What stays open keeps the process from ending, and the next agent out of its directories.
    await endAll(
      () => [groups.stop()],
      () => [control.stop()],
    ).finally(() => {
      for (const lock of locks) closeSync(lock);
      process.off('uncaughtException', onDefect);
    });
  }
}
