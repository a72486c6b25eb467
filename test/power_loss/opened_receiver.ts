import pino from 'pino';
import * as native from '../../native/index.js';
import { BaseAccess } from '../../receiver/base_access.js';
import { BaseDamage } from '../../receiver/base_damage.js';
import { Catalog } from '../../receiver/catalog/catalog.js';
import { DamageWatch } from '../../receiver/journal/damage_watch.js';
import { RunBuilds } from '../../receiver/journal/runs.js';
import type { MemberRow } from '../../receiver/catalog/members.js';
import type { MemberJournal } from '../../receiver/journal/journal.js';
import { Members, type Member } from '../../receiver/members.js';
import { Points } from '../../receiver/points.js';
import { BaseRoll } from '../../receiver/retention/base_roll.js';
import type { Store } from '../../receiver/store.js';
import type { Violations } from './verdict.js';

const SEGMENT_BYTES = 4n << 20n;

/** The receiver's parts as receiver/main.ts puts them together, without its servers. */
export class OpenedReceiver {
  readonly catalog: Catalog;
  readonly members: Members;
  readonly points: Points;
  private readonly runs: RunBuilds;
  private readonly watch: DamageWatch;
  private readonly baseDamage: BaseDamage;
  private readonly roll: BaseRoll;

  constructor(
    readonly store: Store,
    violations: Violations,
  ) {
    // Whatever a receiver says of an error after power loss, it should have no reason to.
    const complain = (line: string): void => {
      const { err, msg } = JSON.parse(line) as { err?: { code?: string; message?: string }; msg: string };
      violations.add(
        'opens',
        `the receiver says: ${msg}${err === undefined ? '' : ` (${err.code ?? ''} ${err.message ?? ''})`}`,
      );
    };
    const log = pino({ level: 'error' }, { write: complain });
    this.catalog = Catalog.open(store.catalogFile);
    const { catalog } = this;
    const member = (uuid: string): Member | null => this.members.get(uuid);
    const onBaseDamage = (file: string, offsets: readonly bigint[]): void =>
      this.baseDamage.found(file, offsets);
    const onBaseLost = (file: string): void => this.baseDamage.lost(file);
    const access = new BaseAccess();
    const onBase = { onBaseDamage, onBaseLost };
    this.watch = new DamageWatch({ catalog, store, access, native, member, ...onBase, log });
    const watched = { ...native, ...this.watch.native };
    this.runs = new RunBuilds({ catalog, store, log, buildRun: watched.buildRun });
    const limits = { segmentBytes: SEGMENT_BYTES, headroomBytes: 0n };
    const journals = { catalog, store, access, native: watched, runs: this.runs, log, ...limits };
    this.members = new Members(journals, () => performance.now());
    const atOnce = { sleep: () => Promise.resolve(), atStage: () => undefined };
    this.roll = new BaseRoll({ catalog, store, access, native: watched, ...atOnce, log });
    const nowNs = (): bigint => BigInt(Date.now()) * 1_000_000n;
    this.points = new Points({ catalog, store, native: watched, journals: this.members, access, nowNs });
    this.baseDamage = new BaseDamage({
      ...{ catalog, store, access, native, log },
      points: new Points({ catalog, store, native, journals: this.members, access, nowNs }),
      journal: (uuid) => member(uuid)?.damaged ?? null,
    });
  }

  open(): Promise<void> {
    return this.members.openAll();
  }

  /** What retention was in the middle of. */
  async finishRoll(row: MemberRow, journal: MemberJournal): Promise<void> {
    await this.roll.finish(
      row,
      journal,
      () => Promise.resolve(null),
      () => false,
    );
  }

  async close(): Promise<void> {
    await this.runs.close();
    await this.watch.idle();
    await this.baseDamage.idle();
    await this.members.close();
    this.catalog.close();
  }
}
