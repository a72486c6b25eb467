/** PostgreSQL on a protected volume: every commit that it acknowledged before a point is there at that point. */
import { mkdir } from 'node:fs/promises';
import { AfterimageError } from '../../proto/errors.js';
import { formatTime } from '../../proto/time.js';
import { command } from '../scenario/command.js';
import {
  acknowledgedBy,
  Cluster,
  rowOf,
  type Commit,
  type Load,
  type LoggedCommit,
} from '../scenario/postgres.js';
import type { Scratch } from '../scenario/scratch.js';
import type { SiteControl } from './site_control.js';

const BYTES = 192 << 20;
/** Between two checkpoints, which a fast machine comes to soon. Its default is more than all of the volume. */
const LOG_LIMITS = ["max_wal_size = '64MB'", "min_wal_size = '32MB'"];
const SCALE = 1;
const CLIENTS = 4;
const SECONDS_MAX = 120;

/** A file system with a database in it, made once. */
export class DatabaseImage {
  private constructor(private readonly file: string) {}

  static async make(scratch: Scratch): Promise<DatabaseImage> {
    const file = scratch.path('database-image');
    await command('truncate', ['-s', String(BYTES), file]);
    await command('mkfs.ext4', ['-q', '-F', file]);
    const mount = scratch.path('database-mount');
    await mkdir(mount);
    await command('mount', ['-o', 'loop', file, mount]);
    try {
      const cluster = await Cluster.at(`${mount}/pg`, scratch.path('database-sockets'));
      await cluster.initialize(...LOG_LIMITS);
      await cluster.start();
      try {
        await cluster.prepare(SCALE);
        await cluster.sql('CHECKPOINT');
      } finally {
        await cluster.stop();
      }
    } finally {
      await command('umount', [mount]);
    }
    return new DatabaseImage(file);
  }

  async copyTo(file: string): Promise<void> {
    await command('cp', ['--sparse=always', this.file, file]);
  }
}

/** What was acknowledged, and what is there. */
export interface Ended {
  commits: Commit[];
  ledger: Map<string, bigint>;
  /** What server and clients say went wrong. */
  complaints: string[];
}

/** At work on its device, but for where its host is lost. */
export class Database {
  private load: Load | null = null;
  /** Of the loads that have ended. */
  private readonly logged: LoggedCommit[][] = [];
  private readonly failures: string[] = [];

  private constructor(
    private readonly scratch: Scratch,
    private readonly cluster: Cluster,
    private readonly mount: string,
  ) {}

  static async start(scratch: Scratch, device: string): Promise<Database> {
    const mount = scratch.path('mnt');
    await mkdir(mount);
    const cluster = await Cluster.at(`${mount}/pg`, scratch.path('production'));
    const database = new Database(scratch, cluster, mount);
    scratch.defer('mount', () => command('umount', [mount], { accept: [32] }));
    scratch.defer('PostgreSQL', () => cluster.stop());
    scratch.defer('pgbench', () => database.load?.finish(true));
    await database.begin(device);
    return database;
  }

  /** Begins to work, or goes on: where `device` is now. */
  async begin(device: string): Promise<void> {
    await command('mount', [device, this.mount]);
    await this.cluster.unlock();
    await this.cluster.start();
    const run = this.logged.length;
    const directory = this.scratch.path(`load-${run}`);
    this.load = await this.cluster.load(directory, CLIENTS, SECONDS_MAX, SCALE, run * CLIENTS);
  }

  /** Ends the work by the death of its server, as pgbench writes its log then, and unmounts. */
  async rest(): Promise<void> {
    await this.die();
    await command('umount', [this.mount]);
  }

  /** Lets nothing be written to the device while `meanwhile` lasts: what would be waits. */
  async frozen<T>(meanwhile: () => Promise<T>): Promise<T> {
    await command('fsfreeze', ['--freeze', this.mount]);
    try {
      return await meanwhile();
    } finally {
      await command('fsfreeze', ['--unfreeze', this.mount]);
    }
  }

  /** Ends the work as rest() does; what production has of it. */
  async end(): Promise<Ended> {
    await this.die();
    const complaints = [...this.failures, ...(await this.cluster.complaints())];
    await this.cluster.unlock();
    await this.cluster.start();
    const ledger = await this.cluster.ledger();
    await this.cluster.stop();
    await command('umount', [this.mount]);
    const commits = this.logged.flatMap((run) => (run.length === 0 ? [] : acknowledgedBy(run, ledger)));
    return { commits, ledger, complaints };
  }

  private async die(): Promise<void> {
    const { load } = this;
    const failure = load?.failure() ?? null;
    if (failure !== null) this.failures.push(failure);
    await this.cluster.stop();
    this.load = null;
    if (load !== null) this.logged.push(await load.finish());
  }

  /**
   * Judges `points` instants of the work that the receiver still holds; where it holds none any more, its oldest one, which
   * has all of it. `mayBreak`: some of them may lie in a gap.
   */
  async judge(
    { commits, ledger }: Ended,
    control: SiteControl,
    volume: string,
    points: number,
    mayBreak: boolean,
    random: () => number,
  ): Promise<string[]> {
    const violations: string[] = [];
    for (const { client, sequence } of commits)
      if (!ledger.has(rowOf(client, sequence))) violations.push(`production lost ${rowOf(client, sequence)}`);
    for (let i = 0; i < points && commits.length > 0; i += 1) {
      const { windowBeginNs } = await control.receiverGroup();
      const held = commits.filter((commit) => commit.timeNs >= windowBeginNs);
      const timeNs = held[Math.floor(random() * held.length)]?.timeNs ?? windowBeginNs;
      const promised = commits.filter((commit) => commit.timeNs <= timeNs);
      const point = formatTime(timeNs);
      const there = await this.ledgerAt(control, volume, point, i).catch(async (thrown: unknown) => {
        if (!(thrown instanceof AfterimageError)) throw thrown;
        if (mayBreak && thrown.code === 'POINT_GRADE') return null;
        // Retention goes on meanwhile, and takes what is older than what it holds then.
        const isTaken = timeNs < (await control.receiverGroup()).windowBeginNs;
        if (thrown.code === 'POINT_EXPIRED' && isTaken) return null;
        throw thrown;
      });
      if (there === null) continue;
      const missing = promised.filter(({ client, sequence }) => !there.has(rowOf(client, sequence)));
      if (missing.length > 0)
        violations.push(`${point}: ${missing.length} of ${promised.length} commits are missing`);
    }
    return violations;
  }

  private async ledgerAt(
    control: SiteControl,
    volume: string,
    point: string,
    index: number,
  ): Promise<Map<string, bigint>> {
    const opened = await control.open(volume, point);
    try {
      const mount = this.scratch.path(`rewound-${index}`);
      await mkdir(mount);
      await command('mount', [opened.volumes[0]?.device ?? '', mount]);
      try {
        const cluster = await Cluster.at(`${mount}/pg`, this.scratch.path(`recovered-${index}`));
        await cluster.unlock();
        await cluster.start();
        try {
          return await cluster.ledger();
        } finally {
          await cluster.stop();
        }
      } finally {
        await command('umount', [mount]);
      }
    } finally {
      await control.close(opened);
    }
  }
}
