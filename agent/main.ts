/**
 * The agent of a protected host, put together: configuration in, volumes served and replicated until a signal. Nothing
 * is decided here.
 */
import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { formatAddress } from '../service/config.js';
import { fileError } from '../service/file_error.js';
import { createLog, type Log } from '../service/log.js';
import { aborted, type StopSignals } from '../service/signals.js';
import * as native from '../native/index.js';
import { systemClock } from './clock.js';
import type { AgentConfig } from './config.js';
import { AgentControl } from './control.js';
import { ProtectionGroup, type GroupSurroundings } from './group.js';

const LINK_DIR = '/dev/afterimage';
const INSTANCE_BYTES = 16;

/** What a test may replace. */
export interface AgentOverrides {
  log?: Log;
  linkDir?: string;
}

/**
 * Protects what `config` says until `signals` tells to stop. Resolves when everything is detached and closed. Errors:
 * STATE_BUSY, LISTEN_BUSY, LISTEN_FAILED, PERMISSION_DENIED, IO_ERROR, and those of ProtectionGroup.start.
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
  const groups = new Map<string, ProtectionGroup>();
  const head = { version, host: hostname(), receiver: formatAddress(config.receiver) };
  const isConnected = (): boolean => [...groups.values()].some((group) => group.member.connected);
  // An exception that nobody caught would end the process, and with it the threads that serve production (R7).
  const onDefect = (error: unknown): void => {
    log.fatal({ err: error }, 'a defect: please report it');
    for (const group of groups.values()) group.member.fail(error);
  };
  process.on('uncaughtException', onDefect);
  const control = new AgentControl(head, groups, isConnected, () => process.memoryUsage.rss());
  try {
    // Of the run directory too: leftovers that lie there must be those of a dead process.
    for (const directory of new Set([config.stateDir, config.runDir]))
      locks.push(await lockDirectory(directory));
    const instance = randomBytes(INSTANCE_BYTES);
    for (const group of config.groups) {
      if (signals.drain.aborted) break;
      const surroundings: GroupSurroundings = {
        door: native,
        receiver: config.receiver,
        stateDir: config.stateDir,
        places: { runDir: config.runDir, linkDir: overrides.linkDir ?? LINK_DIR },
        host: head.host,
        software: `afterimage ${version}`,
        instance,
        clock: systemClock,
        log: log.child({ group: group.name }),
        end: signals.end,
      };
      groups.set(group.name, await ProtectionGroup.start(group, surroundings));
    }
    // Last, so that whoever gets an answer finds its volumes.
    if (!signals.drain.aborted) await control.listen(config.control);
    await aborted(signals.drain);
    log.info('stopping');
  } finally {
    await stopAll(groups, log);
    await control.stop();
    for (const lock of locks) closeSync(lock);
    process.off('uncaughtException', onDefect);
  }
}

/** Stops every group, whatever happens to the others. Errors: the first that one had. */
async function stopAll(groups: ReadonlyMap<string, ProtectionGroup>, log: Log): Promise<void> {
  const ends = await Promise.allSettled(
    [...groups].map(async ([name, group]) => {
      const clean = await group.stop();
      log.info(
        { group: name, clean },
        clean ? 'stopped' : 'stopped; the next start compares with the receiver',
      );
    }),
  );
  for (const end of ends) if (end.status === 'rejected') throw toAfterimageError(end.reason);
}

/** Errors: STATE_BUSY, PERMISSION_DENIED, IO_ERROR. */
async function lockDirectory(directory: string): Promise<number> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw fileError(cause, `${directory} cannot be made`);
  }
  const lock = native.lockFile(path.join(directory, 'agent.lock'));
  if (lock === null) throw new AfterimageError('STATE_BUSY', `${directory} is in use by another agent`);
  return lock;
}
