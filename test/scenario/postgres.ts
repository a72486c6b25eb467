/** A PostgreSQL cluster of the system's own packages, run as user postgres (it refuses root). */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { chmod, chown, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { command, ended } from './command.js';

/** The newest installed server's programs. */
function binaries(): string {
  const root = '/usr/lib/postgresql';
  const version = readdirSync(root)
    .map(Number)
    .filter((number) => number > 0)
    .sort((a, b) => b - a)[0];
  if (version === undefined) throw new Error('PostgreSQL is not installed');
  return path.join(root, String(version), 'bin');
}

async function postgresIds(): Promise<{ uid: number; gid: number }> {
  const id = async (flag: string): Promise<number> =>
    Number((await command('id', [flag, 'postgres'])).stdout);
  return { uid: await id('-u'), gid: await id('-g') };
}

/** One transaction whose commit the server acknowledged. */
export interface Commit {
  client: number;
  sequence: number;
  /** CLOCK_REALTIME, ns: it was acknowledged by then. */
  timeNs: bigint;
}

/** As pgbench saw it: its own clock, and how long the transaction took by it. */
export interface LoggedCommit extends Commit {
  latencyNs: bigint;
}

/** Both pgbench and the server cut theirs down to a microsecond. */
const CLOCK_UNIT_NS = 1000n;

/** A transaction's name in the ledger. */
export function rowOf(client: number, sequence: number): string {
  return `${client}:${sequence}`;
}

export class Cluster {
  private readonly bin = binaries();

  private constructor(
    readonly data: string,
    private readonly sockets: string,
    private readonly ids: { uid: number; gid: number },
  ) {}

  private get log(): string {
    return path.join(this.sockets, 'postgres.log');
  }

  /** `data` need not exist yet; `sockets` is a directory outside of the protected volume. */
  static async at(data: string, sockets: string): Promise<Cluster> {
    const ids = await postgresIds();
    await mkdir(sockets, { recursive: true });
    await chown(sockets, ids.uid, ids.gid);
    return new Cluster(data, sockets, ids);
  }

  /** `settings`: further lines of its configuration. */
  async initialize(...further: string[]): Promise<void> {
    await mkdir(this.data, { mode: 0o700 });
    await chown(this.data, this.ids.uid, this.ids.gid);
    await this.as(['initdb', '-D', this.data, '-A', 'trust', '--data-checksums'], 120);
    const settings = [
      "listen_addresses = ''",
      `unix_socket_directories = '${this.sockets}'`,
      'shared_buffers = 64MB',
      ...further,
    ];
    await writeFile(path.join(this.data, 'postgresql.auto.conf'), `${settings.join('\n')}\n`);
  }

  /**
   * Removes the lock file that a copy of a running cluster carries: the process that it names lives, or lived, on this
   * same machine.
   */
  async unlock(): Promise<void> {
    await rm(path.join(this.data, 'postmaster.pid'), { force: true });
  }

  /** Starts it; `sockets` overrides what a recovered configuration says. */
  async start(): Promise<void> {
    const { log } = this;
    const options = `-c unix_socket_directories='${this.sockets}'`;
    await this.as(
      ['pg_ctl', '-D', this.data, '-w', '-t', '120', '-l', log, '-o', options, 'start'],
      130,
    ).catch(async (error: unknown) => {
      throw new Error(`${String(error)}\n${(await readFile(log, 'utf8').catch(() => '')).slice(-4000)}`);
    });
  }

  /** Ends it without a checkpoint: what is on the volume stays as it is. Nothing happens when it does not run. */
  async stop(): Promise<void> {
    if (!existsSync(path.join(this.data, 'postmaster.pid'))) return;
    await this.as(['pg_ctl', '-D', this.data, '-w', '-t', '60', '-m', 'immediate', 'stop'], 70);
  }

  /** What it has written to its log of a disk that failed it. */
  async complaints(): Promise<string[]> {
    const log = await readFile(this.log, 'utf8');
    return log
      .split('\n')
      .filter((line) => /PANIC|could not (?:fsync|sync|flush|write|read|extend)/.test(line));
  }

  /** Runs SQL; unaligned output, one line a row. */
  async sql(text: string, database = 'postgres'): Promise<string> {
    const result = await this.as(
      ['psql', '-h', this.sockets, '-d', database, '-v', 'ON_ERROR_STOP=1', '-qAt', '-c', text],
      300,
    );
    return result.stdout.trim();
  }

  async program(name: string, args: string[], secondsMax = 300): Promise<string> {
    return (await this.as([name, '-h', this.sockets, ...args], secondsMax)).stdout;
  }

  /** Makes pgbench's tables, and `ledger`, where each transaction of load() leaves (client, sequence) and its begin. */
  async prepare(scale: number): Promise<void> {
    await this.program('pgbench', ['-i', '-s', String(scale), '-q', 'postgres'], 600);
    await this.sql(
      'CREATE TABLE ledger (client int, sequence int, begun timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP, ' +
        'PRIMARY KEY (client, sequence))',
    );
  }

  /** The transactions that are there, each with its begin, ns. */
  async ledger(): Promise<Map<string, bigint>> {
    const rows = await this.sql(
      "SELECT client || ':' || sequence, (extract(epoch FROM begun) * 1000000)::bigint FROM ledger",
    );
    const lines = rows.split('\n').filter((line) => line !== '');
    return new Map(
      lines.map((line) => {
        const [row = '', begunUs = ''] = line.split('|');
        return [row, BigInt(begunUs) * 1000n];
      }),
    );
  }

  /** pgbench under way, each transaction logged below `directory`. `firstClient`: the number of its first one in the ledger. */
  async load(
    directory: string,
    clients: number,
    seconds: number,
    scale: number,
    firstClient = 0,
  ): Promise<Load> {
    await mkdir(directory, { recursive: true });
    await chown(directory, this.ids.uid, this.ids.gid);
    await chmod(directory, 0o700);
    const script = path.join(directory, 'transaction.sql');
    await writeFile(
      script,
      [
        '\\set n :n + 1',
        '\\set client :client_id + :first_client',
        '\\set aid random(1, 100000 * :scale)',
        '\\set delta random(-5000, 5000)',
        'BEGIN;',
        'UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;',
        'INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, :delta, CURRENT_TIMESTAMP);',
        'INSERT INTO ledger (client, sequence) VALUES (:client, :n);',
        'COMMIT;',
        '',
      ].join('\n'),
    );
    const args = [
      '-h',
      this.sockets,
      '-n',
      '-M',
      'prepared',
      '-c',
      String(clients),
      '-j',
      '1',
      '-T',
      String(seconds),
    ];
    const child = spawn(
      path.join(this.bin, 'pgbench'),
      [
        ...args,
        '-D',
        // Its log numbers the transactions of a client from 1.
        'n=0',
        '-D',
        `scale=${scale}`,
        '-D',
        `first_client=${firstClient}`,
        '-f',
        script,
        '-l',
        '--log-prefix',
        path.join(directory, 'commits'),
        'postgres',
      ],
      {
        ...this.ids,
        detached: true,
        cwd: directory,
        stdio: ['ignore', 'ignore', 'ignore'],
        env: { PATH: '/usr/bin:/bin' },
      },
    );
    return new Load(child, directory, seconds, firstClient);
  }

  private as(words: string[], secondsMax: number): ReturnType<typeof command> {
    const [program, ...args] = words;
    if (program === undefined) throw new Error('no program');
    const found = path.join(this.bin, program);
    return command('setpriv', ['--reuid=postgres', '--regid=postgres', '--clear-groups', found, ...args], {
      secondsMax,
      cwd: '/',
    });
  }
}

export class Load {
  constructor(
    private readonly child: ChildProcess,
    private readonly directory: string,
    private readonly seconds: number,
    private readonly firstClient: number,
  ) {}

  /** How it ended, which it does when a transaction fails; null: it is at work, or has done all of it. */
  failure(): string | null {
    const { exitCode, signalCode } = this.child;
    if (signalCode !== null) return `pgbench ended with ${signalCode}`;
    return exitCode === null || exitCode === 0 ? null : `pgbench ended with ${exitCode}`;
  }

  /** Waits for its end (or ends it) and reads every commit that the server acknowledged, in its own time. */
  async finish(stopNow = false): Promise<LoggedCommit[]> {
    // On SIGINT pgbench would drop its buffered log; on the loss of its server it ends by itself and writes it.
    if (stopNow) this.child.kill('SIGKILL');
    await ended(this.child, this.seconds + 60);
    const commits: LoggedCommit[] = [];
    for (const file of await readdir(this.directory)) {
      if (!file.startsWith('commits.')) continue;
      for (const line of (await readFile(path.join(this.directory, file), 'utf8')).split('\n')) {
        // client_id transaction_no time (its latency, µs) script_no time_epoch time_us
        const [client, sequence, latency, , epoch, us] = line.split(' ');
        if (us === undefined || !/^\d+$/.test(latency ?? '')) continue;
        commits.push({
          client: this.firstClient + Number(client),
          sequence: Number(sequence),
          latencyNs: BigInt(latency ?? 0) * 1000n,
          timeNs: BigInt(epoch ?? 0) * 1_000_000_000n + BigInt(us) * 1000n,
        });
      }
    }
    return commits;
  }
}

/**
 * When each commit was acknowledged at the latest. What pgbench logs is of its clock after the answer to COMMIT (pgbench.c,
 * doLog()), and yet may be too early: it counts from its start, where it reads the time of day and then its other clock
 * (epoch_shift). If it had to wait in between, and on a busy machine that is milliseconds, everything that it logs is too
 * early by as much.
 *
 * So what the server says goes first: a client begins its next transaction after it has logged this one. Where there is no
 * next one, the least time from what a client logged to what the server has as the begin of its next is a bound for how
 * much pgbench is too early.
 *
 * The latency is of no help: pgbench takes it before it logs, and if it had to wait in between, the begin of a transaction
 * that is computed from both is too late.
 */
export function acknowledgedBy(
  logged: readonly LoggedCommit[],
  ledger: ReadonlyMap<string, bigint>,
): Commit[] {
  const nextBegun = ({ client, sequence }: Commit): bigint | undefined =>
    ledger.get(rowOf(client, sequence + 1));
  const tooEarlyNs = logged.reduce<bigint | null>((least, commit) => {
    const begunNs = nextBegun(commit);
    if (begunNs === undefined) return least;
    const differenceNs = begunNs - commit.timeNs;
    return least === null || differenceNs < least ? differenceNs : least;
  }, null);
  // No client got to a second one: nobody knows when the first ones were acknowledged.
  if (tooEarlyNs === null) return [];
  return logged.map((commit) => ({
    client: commit.client,
    sequence: commit.sequence,
    timeNs: (nextBegun(commit) ?? commit.timeNs + tooEarlyNs) + CLOCK_UNIT_NS,
  }));
}
