/** A receiver and an agent on this machine, with their configurations in a scratch directory. */
import { randomInt } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CommandResult } from './command.js';
import { command } from './command.js';
import { CLI, Daemon, type DaemonOptions } from './daemon.js';
import { joinOffline } from './joined.js';
import type { Scratch } from './scratch.js';

const PORT_MIN = 20_000;
/** Where those of clients begin: net.ipv4.ip_local_port_range, as kernels have it from the start. */
const PORT_END = 32_768;

export interface SiteVolume {
  name: string;
  /** Either this or `mapped`. */
  backing?: string;
  mapped?: string;
  attach: 'loop' | 'nbd' | 'socket';
  cache?: 'buffered' | 'direct';
}
export interface SiteOptions {
  group: string;
  volumes: SiteVolume[];
  ringBytes?: string;
  /** Lines of the agent's configuration, more than it needs. */
  agentLines?: string[];
  /** Lines of the agent's group, more than it needs. */
  groupLines?: string[];
  segmentBytes?: string;
  /** Lines of the receiver's configuration, more than it needs. */
  receiver?: string;
  /** Directory of the store, when it is to lie elsewhere. */
  store?: string;
  /** The agent's state directory, when it is to lie elsewhere. */
  state?: string;
  /** Without TLS: where something in between reads what they say. */
  plain?: boolean;
  /** Address the agent connects to, when it is not the receiver's own (a proxy in between). */
  via?: (listen: string) => Promise<string>;
  env?: NodeJS.ProcessEnv;
  /** The agent runs below the bundled supervisor. */
  supervised?: boolean;
  /** Makes the daemons, when they are not to be processes of this one's. */
  daemon?: (options: DaemonOptions) => Daemon;
}

export interface VolumeReport {
  name: string;
  state: string;
  device: string;
  size: number;
  writeBytes: number;
  writes: number;
  doubtBytes: number;
  resyncComparedBytes: number;
  resyncDifferingBytes: number;
}

/** The fields of `afterimage status --json` that scenarios look at. */
export interface GroupReport {
  name: string;
  state: string;
  detail: string;
  generation: string;
  capturedLsn: string;
  shippedLsn: string;
  durableLsn: string;
  rpoLagP50Ns: string;
  rpoLagP99Ns: string;
  ringUsedBytes: number;
  ringBytes: number;
  spoolUsedBytes: number;
  spoolBytes: number;
  capturedBytes: number;
  shippedBytes: number;
  journalBytes: number;
  oldestLsn: string;
  retentionHeldBy: string;
  records: number;
  volumes: VolumeReport[];
}

export class Site {
  private constructor(
    readonly scratch: Scratch,
    readonly receiver: Daemon,
    readonly agent: Daemon,
    readonly receiverControl: string,
    readonly agentControl: string,
    readonly group: string,
    readonly store: string,
    readonly agentState: string,
    readonly listen: string,
  ) {}

  /** Writes the configurations and makes the store; starts nothing. */
  static async create(scratch: Scratch, options: SiteOptions): Promise<Site> {
    const listen = `127.0.0.1:${await freePort()}`;
    const listening =
      options.plain === true ? `listen = "127.0.0.1:0"\nlisten_plain = "${listen}"` : `listen = "${listen}"`;
    const run = scratch.path('run');
    const store = options.store ?? scratch.path('store');
    await mkdir(run, { mode: 0o700 });
    const receiverConfig = scratch.path('receiver.toml');
    await writeFile(
      receiverConfig,
      `store = "${store}"\n${listening}\nrun_dir = "${run}"\nsegment_bytes = "${options.segmentBytes ?? '64MiB'}"\n${options.receiver ?? ''}\n`,
    );
    const agentConfig = scratch.path('agent.toml');
    const address = options.via === undefined ? listen : await options.via(listen);
    await writeFile(agentConfig, agentToml(scratch, run, address, options));
    await afterimage(['receiver', 'init', '--store', store]);
    if (options.plain !== true) await joinOffline(store, options.state ?? scratch.path('state'), address);
    const { env, daemon: make = (one) => new Daemon(one) } = options;
    const daemon = (name: 'agent' | 'receiver', config: string): Daemon =>
      make({
        name,
        config,
        control: `${run}/${name}.sock`,
        log: scratch.path(`${name}.log`),
        supervised: name === 'agent' && options.supervised === true,
        ...(env === undefined ? {} : { env }),
      });
    const receiver = daemon('receiver', receiverConfig);
    const agent = daemon('agent', agentConfig);
    const site = new Site(
      scratch,
      receiver,
      agent,
      `${run}/receiver.sock`,
      `${run}/agent.sock`,
      options.group,
      store,
      options.state ?? scratch.path('state'),
      listen,
    );
    scratch.defer('receiver', () => receiver.end());
    scratch.defer('agent', () => agent.end());
    return site;
  }

  /** Within `secondsMax` each. */
  async start(secondsMax = 30): Promise<void> {
    await this.receiver.start(secondsMax);
    await this.agent.start(secondsMax);
  }

  /** Runs `afterimage … --json` against the receiver and parses what it printed. */
  async ask<T>(...args: string[]): Promise<T> {
    const result = await afterimage([...args, '--control', this.receiverControl, '--json']);
    return JSON.parse(result.stdout) as T;
  }

  /** What a volume held at a point: recovered to a file, and read. */
  async recovered(volume: string, point: string): Promise<Buffer> {
    const file = this.scratch.path(`recovered-${volume}.img`);
    await rm(file, { force: true });
    await this.ask('recover', `${this.group}/${volume}`, '--at', point, '--to', file);
    return readFile(file);
  }

  async agentGroup(): Promise<GroupReport> {
    const result = await afterimage(['status', '--control', this.agentControl, '--json']);
    return groupOf(JSON.parse(result.stdout), 'agent', this.group);
  }

  async receiverGroup(): Promise<GroupReport> {
    return groupOf(await this.ask('status'), 'receiver', this.group);
  }

  /** Waits until the agent says that the group is protected and nothing is left to acknowledge. */
  async settled(secondsMax = 120): Promise<GroupReport> {
    return this.waitFor('protected and acknowledged', secondsMax, (group) => {
      return group.state === 'protected' && group.durableLsn === group.capturedLsn;
    });
  }

  async waitFor(what: string, secondsMax: number, is: (group: GroupReport) => boolean): Promise<GroupReport> {
    const deadline = performance.now() + secondsMax * 1000;
    // A successor serves before it answers.
    await this.agent.answers(secondsMax);
    for (;;) {
      const group = await this.agentGroup();
      if (is(group)) return group;
      if (performance.now() > deadline) {
        const tails = `${await this.agent.tail()}\n${await this.receiver.tail()}`;
        throw new Error(`not ${what} after ${secondsMax} s: ${JSON.stringify(group)}\n${tails}`);
      }
      await sleep(100);
    }
  }
}

function agentToml(scratch: Scratch, run: string, receiver: string, options: SiteOptions): string {
  const lines = [
    `${options.plain === true ? 'receiver_plain' : 'receiver'} = "${receiver}"`,
    `state_dir = "${options.state ?? scratch.path('state')}"`,
    `run_dir = "${run}"`,
    ...(options.agentLines ?? []),
    '[[group]]',
    `name = "${options.group}"`,
    `ring_bytes = "${options.ringBytes ?? '256MiB'}"`,
    ...(options.groupLines ?? []),
  ];
  for (const volume of options.volumes) {
    const { name, backing, mapped } = volume;
    const where = mapped === undefined ? `backing = "${backing ?? ''}"` : `mapped = "${mapped}"`;
    lines.push('[[group.volume]]', `name = "${name}"`, where);
    lines.push(`attach = "${volume.attach}"`, `cache = "${volume.cache ?? 'buffered'}"`);
  }
  return `${lines.join('\n')}\n`;
}

/** …/groups/<group>/<member>, of which this store has one. */
export async function memberDirectory(store: string): Promise<string> {
  const groups = path.join(store, 'groups');
  const [group] = await readdir(groups);
  const [member] = await readdir(path.join(groups, group ?? ''));
  return path.join(groups, group ?? '', member ?? '');
}

/** The address of a volume that is attached as a socket. */
export function nbdUri(group: GroupReport, index = 0): string {
  return `nbd+unix:///?socket=${(group.volumes[index]?.device ?? '').replace(/^unix:/, '')}`;
}

/** `afterimage status --json` prints { agent: …, receiver: … }, either null when it does not run here. */
export function groupOf(status: unknown, daemon: 'agent' | 'receiver', name: string): GroupReport {
  const report = (status as Record<string, { groups: GroupReport[] } | null>)[daemon];
  const group = report?.groups.find((one) => one.name === name);
  if (group === undefined)
    throw new Error(`the ${daemon} does not know group ${name}: ${JSON.stringify(status)}`);
  return group;
}

export function afterimage(
  args: string[],
  accept: number[] = [],
  env?: NodeJS.ProcessEnv,
): Promise<CommandResult> {
  return command(process.execPath, [CLI, ...args], { accept, ...(env === undefined ? {} : { env }) });
}

/**
 * Below those that the kernel gives to clients: else one of them, of whatever program, may have it when the receiver is started
 * again, or have connected to itself there meanwhile.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(PORT_MIN, PORT_END);
    const server = net.createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}
