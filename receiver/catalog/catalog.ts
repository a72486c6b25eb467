/**
 * The receiver's memory besides the journal: who its groups, members and volumes are, which segments there are, what
 * was marked, what is damaged. It is never written per record, and everything about segments can be found again by
 * reading them.
 *
 * Threads: better-sqlite3 is synchronous; every statement here runs on the main thread and takes well under 1 ms, a
 * transaction one fdatasync more.
 */
import { BaseDamageTable } from './base_damage.js';
import { CheckpointTable } from './checkpoints.js';
import { DamageTable } from './damage.js';
import { openDatabase, type CatalogDatabase } from './database.js';
import { DoubtTable } from './doubts.js';
import { EraTable } from './eras.js';
import { GenerationTable } from './generations.js';
import { GrantTable } from './grants.js';
import { HeldWindowTable } from './held_windows.js';
import { IdentityTable } from './identities.js';
import { MemberTable } from './members.js';
import { ScrubTable } from './scrubs.js';
import { SegmentTable } from './segments.js';
import { TokenTable } from './tokens.js';
import { VerificationTable } from './verifications.js';
import { VolumeTable } from './volumes.js';

export class Catalog {
  readonly members: MemberTable;
  readonly volumes: VolumeTable;
  readonly generations: GenerationTable;
  readonly segments: SegmentTable;
  readonly eras: EraTable;
  readonly checkpoints: CheckpointTable;
  readonly damage: DamageTable;
  readonly doubts: DoubtTable;
  readonly windows: HeldWindowTable;
  readonly baseDamage: BaseDamageTable;
  readonly scrubs: ScrubTable;
  readonly verifications: VerificationTable;
  readonly identities: IdentityTable;
  readonly tokens: TokenTable;
  readonly grants: GrantTable;

  private constructor(private readonly database: CatalogDatabase) {
    this.members = new MemberTable(database);
    this.volumes = new VolumeTable(database);
    this.generations = new GenerationTable(database);
    this.segments = new SegmentTable(database);
    this.eras = new EraTable(database);
    this.checkpoints = new CheckpointTable(database);
    this.damage = new DamageTable(database);
    this.doubts = new DoubtTable(database);
    this.windows = new HeldWindowTable(database);
    this.baseDamage = new BaseDamageTable(database);
    this.scrubs = new ScrubTable(database);
    this.verifications = new VerificationTable(database);
    this.identities = new IdentityTable(database);
    this.tokens = new TokenTable(database);
    this.grants = new GrantTable(database);
  }

  /** Errors: STORE_VERSION, STORE_INVALID. */
  static open(file: string): Catalog {
    return new Catalog(openDatabase(file));
  }

  /** All of `change` or nothing; on stable storage when it returns. */
  atomically<T>(change: () => T): T {
    return this.database.transaction(change).immediate();
  }

  close(): void {
    this.database.close();
  }
}
