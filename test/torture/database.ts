/** PostgreSQL on a protected volume: every commit that it acknowledged before a point is there at that point. */
import { mkdir } from 'node:fs/promises';
import { AfterimageError } from '../../proto/errors.js';
import { formatTime } from '../../proto/time.js';
import { command } from '../scenario/command.js';
import { acknowledgedBy, Cluster, rowOf, type Commit, type Load } from '../scenario/postgres.js';
import type { Scratch } from '../scenario/scratch.js';
import type { SiteControl } from './site_control.js';

const BYTES = 512 << 20;
/** Between two checkpoints, which a fast machine comes to soon. Its default is more than all of the volume. */
const LOG_MAX = "max_wal_size = '96MB'";
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
      await cluster.initialize(LOG_MAX);
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

/** At work on its device. */
export class Database {
  private constructor(
    private readonly scratch: Scratch,
    private readonly cluster: Cluster,
    private readonly load: Load,
    private readonly mount: string,
  ) {}

  static async start(scratch: Scratch, device: string): Promise<Database> {
    const mount = scratch.path('mnt');
    await mkdir(mount);
    await command('mount', [device, mount]);
    scratch.defer('mount', () => command('umount', [mount], { accept: [32] }));
    const cluster = await Cluster.at(`${mount}/pg`, scratch.path('production'));
    await cluster.unlock();
    await cluster.start();
    scratch.defer('PostgreSQL', () => cluster.stop());
    const load = await cluster.load(scratch.path('load'), CLIENTS, SECONDS_MAX, SCALE);
    scratch.defer('pgbench', () => load.finish(true));
    return new Database(scratch, cluster, load, mount);
  }

  /** Ends the work by the death of its server, as pgbench writes its log then; what production has of it. Unmounts. */
  async end(): Promise<Ended> {
    const failure = this.load.failure();
    await this.cluster.stop();
    const complaints = [...(failure === null ? [] : [failure]), ...(await this.cluster.complaints())];
    const logged = await this.load.finish();
    await this.cluster.unlock();
    await this.cluster.start();
    const ledger = await this.cluster.ledger();
    await this.cluster.stop();
    await command('umount', [this.mount]);
    return { commits: acknowledgedBy(logged, ledger), ledger, complaints };
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
