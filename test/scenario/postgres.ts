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

export class Cluster {
  private readonly bin = binaries();

  private constructor(
    readonly data: string,
    private readonly sockets: string,
    private readonly ids: { uid: number; gid: number },
  ) {}

  /** `data` need not exist yet; `sockets` is a directory outside of the protected volume. */
  static async at(data: string, sockets: string): Promise<Cluster> {
    const ids = await postgresIds();
    await mkdir(sockets, { recursive: true });
    await chown(sockets, ids.uid, ids.gid);
    return new Cluster(data, sockets, ids);
  }

  async initialize(): Promise<void> {
    await mkdir(this.data, { mode: 0o700 });
    await chown(this.data, this.ids.uid, this.ids.gid);
    await this.as(['initdb', '-D', this.data, '-A', 'trust', '--data-checksums'], 120);
    const settings = [
      "listen_addresses = ''",
      `unix_socket_directories = '${this.sockets}'`,
      'shared_buffers = 64MB',
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
    const log = path.join(this.sockets, 'postgres.log');
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

  /** Makes pgbench's tables, and `ledger`, where each transaction of load() leaves (client, sequence). */
  async prepare(scale: number): Promise<void> {
    await this.program('pgbench', ['-i', '-s', String(scale), '-q', 'postgres'], 600);
    await this.sql('CREATE TABLE ledger (client int, sequence int, PRIMARY KEY (client, sequence))');
  }

  /** pgbench under way, each transaction logged below `directory`. */
  async load(directory: string, clients: number, seconds: number, scale: number): Promise<Load> {
    await mkdir(directory, { recursive: true });
    await chown(directory, this.ids.uid, this.ids.gid);
    await chmod(directory, 0o700);
    const script = path.join(directory, 'transaction.sql');
    await writeFile(
      script,
      [
        '\\set n :n + 1',
        '\\set aid random(1, 100000 * :scale)',
        '\\set delta random(-5000, 5000)',
        'BEGIN;',
        'UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;',
        'INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, :delta, CURRENT_TIMESTAMP);',
        'INSERT INTO ledger VALUES (:client_id, :n);',
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
        'n=-1',
        '-D',
        `scale=${scale}`,
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
    return new Load(child, directory, seconds);
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
  ) {}

  /** Waits for its end (or ends it) and reads every commit that the server acknowledged. */
  async finish(stopNow = false): Promise<Commit[]> {
    // On SIGINT pgbench would drop its buffered log; on the loss of its server it ends by itself and writes it.
    if (stopNow) this.child.kill('SIGKILL');
    await ended(this.child, this.seconds + 60);
    const commits: Commit[] = [];
    for (const file of await readdir(this.directory)) {
      if (!file.startsWith('commits.')) continue;
      for (const line of (await readFile(path.join(this.directory, file), 'utf8')).split('\n')) {
        // client_id transaction_no time script_no time_epoch time_us
        const [client, sequence, latency, , epoch, us] = line.split(' ');
        if (us === undefined || !/^\d+$/.test(latency ?? '')) continue;
        commits.push({
          client: Number(client),
          sequence: Number(sequence),
          timeNs: BigInt(epoch ?? 0) * 1_000_000_000n + BigInt(us) * 1000n,
        });
      }
    }
    return acknowledgedBy(commits);
  }
}

/**
 * pgbench takes the end of a transaction from a clock that it may have read before it sent the COMMIT (one reading
 * serves all that is done without waiting, and on a busy machine the answer is there at once). What is certain is that
 * the client had the answer before it ended its next transaction: that is the time taken here.
 */
function acknowledgedBy(logged: readonly Commit[]): Commit[] {
  const endOf = new Map(logged.map((commit) => [`${commit.client}:${commit.sequence}`, commit.timeNs]));
  return logged.flatMap((commit) => {
    const timeNs = endOf.get(`${commit.client}:${commit.sequence + 1}`);
    return timeNs === undefined ? [] : [{ ...commit, timeNs }];
  });
}
