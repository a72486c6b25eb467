/** An agent inside the test's own process, with its own directories, and the shell commands that tests use on it. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import type { AgentConfig, GroupConfig, VolumeConfig } from '../../agent/config.js';
import { runAgent } from '../../agent/main.js';
import { Succession } from '../../agent/succession.js';
import { agentControlService, type CheckpointInfo, type GroupStatus } from '../../proto/control.js';
import { createLog, type Log } from '../../service/log.js';
import { RpcClient } from '../../service/rpc.js';

const run = promisify(execFile);
const CALL_MS_MAX = 35_000;

/** Silent unless AFTERIMAGE_TEST_LOG names a level. */
export function testLog(): Log {
  const level = process.env['AFTERIMAGE_TEST_LOG'];
  return createLog('agent', level === undefined ? 'fatal' : (level as 'info'));
}

/** Under the system's own temporary directory: the path of a socket must be short. Gone after the test. */
export function scratchDirectory(t: Test): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'afterimage-agent-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export interface TestSite {
  directory: string;
  receiverPort: number;
  volumes: VolumeConfig[];
  ringBytes?: bigint;
  unmarkAfterMs?: number;
  control?: string;
  /** Before the group of `volumes`. */
  moreGroups?: GroupConfig[];
}

export function configOf(site: TestSite): AgentConfig {
  const {
    directory,
    receiverPort,
    volumes,
    ringBytes = 8n << 20n,
    unmarkAfterMs = 60_000,
    moreGroups = [],
  } = site;
  const runDir = path.join(directory, 'run');
  const control = site.control ?? path.join(runDir, 'agent.sock');
  return {
    receiver: { plain: { host: '127.0.0.1', port: receiverPort } },
    identityFile: path.join(directory, 'state', 'identity.json'),
    stateDir: path.join(directory, 'state'),
    runDir,
    control,
    metrics: null,
    logLevel: 'fatal',
    groups: [
      ...moreGroups,
      {
        name: 'db',
        ringBytes,
        lingerUs: 1000,
        unmarkAfterMs,
        spool: null,
        resyncRateMax: null,
        volumes,
      },
    ],
  };
}

export function socketVolume(directory: string, name = 'data'): VolumeConfig {
  const backing = path.join(directory, `${name}.img`);
  const address = { unix: path.join(directory, 'run', `db-${name}.sock`) };
  return { name, backing, mapped: null, cache: 'buffered', attach: { kind: 'socket', address } };
}

export class RunningAgent {
  private readonly drain = new AbortController();
  private readonly end = new AbortController();
  private ended!: Promise<void>;

  private onReload: () => void = () => undefined;
  private loaded: () => void = () => undefined;

  private constructor(public config: AgentConfig) {}

  /** Runs an agent that is expected to give up while starting. Errors: those of runAgent. */
  static async attempt(site: TestSite): Promise<void> {
    const never = new AbortController().signal;
    const log = testLog();
    const signals = { drain: never, end: never };
    const succession = await Succession.begin(signals.drain, log);
    await runAgent(() => Promise.resolve(configOf(site)), signals, 'test', succession, { log });
  }

  /** Resolves when its control socket answers. Errors: those of runAgent. */
  static async start(site: TestSite): Promise<RunningAgent> {
    const agent = new RunningAgent(configOf(site));
    const signals = {
      drain: agent.drain.signal,
      end: agent.end.signal,
      onReload: (listener: () => void): void => void (agent.onReload = listener),
    };
    const linkDir = path.join(site.directory, 'links');
    const log = testLog();
    const succession = await Succession.begin(signals.drain, log);
    const load = (): Promise<AgentConfig> => {
      agent.loaded();
      return Promise.resolve(agent.config);
    };
    agent.ended = runAgent(load, signals, 'test', succession, { log, linkDir });
    let failure: unknown = null;
    agent.ended.catch((error: unknown) => (failure = error));
    for (;;) {
      if (failure !== null) throw failure as Error;
      try {
        await agent.status();
        return agent;
      } catch {
        await sleep(20);
      }
    }
  }

  async groups(): Promise<GroupStatus[]> {
    const { groups } = await this.call((client) =>
      client.callUnary(agentControlService.status, {}, { timeoutMs: CALL_MS_MAX }),
    );
    return groups;
  }

  async status(): Promise<GroupStatus> {
    const status = (await this.groups()).find(({ name }) => name === 'db');
    if (status === undefined) throw new Error('the agent has no such group');
    return status;
  }

  checkpoint(name: string): Promise<CheckpointInfo> {
    return this.call((client) =>
      client.callUnary(
        agentControlService.checkpointCreate,
        { group: 'db', name, pin: false, lockUntilNs: 0n },
        { timeoutMs: CALL_MS_MAX },
      ),
    );
  }

  /** Waits until the status is so. */
  async until(what: string, is: (status: GroupStatus) => boolean, secondsMax = 30): Promise<GroupStatus> {
    const deadline = Date.now() + secondsMax * 1000;
    for (;;) {
      const status = await this.status();
      if (is(status)) return status;
      if (Date.now() > deadline) {
        const shown = JSON.stringify(status, (_key, value: unknown) =>
          typeof value === 'bigint' ? value.toString() : value,
        );
        throw new Error(`not ${what} after ${secondsMax} s: ${shown}`);
      }
      await sleep(20);
    }
  }

  /** Protected, and all that was captured is durable. */
  settled(): Promise<GroupStatus> {
    return this.until('settled', (now) => now.state === 'protected' && now.durableLsn === now.capturedLsn);
  }

  /** Has it read its configuration again, in which the group has these volumes. Resolves when it does, after all reads before. */
  async reload(volumes: VolumeConfig[]): Promise<void> {
    const groups = this.config.groups.map((group) => (group.name === 'db' ? { ...group, volumes } : group));
    this.config = { ...this.config, groups };
    const loaded = new Promise<void>((resolve) => (this.loaded = resolve));
    this.onReload();
    await loaded;
  }

  /** As after the first signal. */
  async stop(): Promise<void> {
    this.drain.abort();
    await this.ended;
  }

  /** As after the second. */
  async stopNow(): Promise<void> {
    this.drain.abort();
    this.end.abort();
    await this.ended;
  }

  private async call<T>(ask: (client: RpcClient) => Promise<T>): Promise<T> {
    const client = await RpcClient.openControl(this.config.control);
    try {
      return await ask(client);
    } finally {
      client.close();
    }
  }
}

/** Runs qemu-io commands on the NBD export of a volume of group db: "write -P 7 0 1M". Throws when one of them fails. */
export async function qemuIo(socket: string, ...commands: string[]): Promise<void> {
  const flags = commands.flatMap((command) => ['-c', command]);
  const { stdout } = await run('qemu-io', ['-f', 'raw', ...flags, nbdUri(socket)]);
  if (/failed|error/i.test(stdout)) throw new Error(stdout);
}

/** `socket`: as socketVolume() names it. */
export function nbdUri(socket: string): string {
  const volume = /db-(\w+)\.sock$/.exec(socket)?.[1] ?? 'data';
  return `nbd+unix:///${volume}?socket=${socket}`;
}
