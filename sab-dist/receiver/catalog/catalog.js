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
import { openDatabase } from './database.js';
import { DoubtTable } from './doubts.js';
import { EraTable } from './eras.js';
import { GenerationTable } from './generations.js';
import { HeldWindowTable } from './held_windows.js';
import { MemberTable } from './members.js';
import { ScrubTable } from './scrubs.js';
import { SegmentTable } from './segments.js';
import { VolumeTable } from './volumes.js';
export class Catalog {
    database;
    members;
    volumes;
    generations;
    segments;
    eras;
    checkpoints;
    damage;
    doubts;
    windows;
    baseDamage;
    scrubs;
    constructor(database) {
        this.database = database;
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
    }
    /** Errors: STORE_VERSION, STORE_INVALID. */
    static open(file) {
        return new Catalog(openDatabase(file));
    }
    /** All of `change` or nothing; on stable storage when it returns. */
    atomically(change) {
        return this.database.transaction(change).immediate();
    }
    close() {
        this.database.close();
    }
}
//# sourceMappingURL=catalog.js.map