/**
 * The catalog's schema, as the one list of steps that every store goes through in order. A step that was released is
 * never changed: another one follows it. `PRAGMA user_version` counts the steps that a store has taken.
 *
 * There is never a row per write: a segment (64 MiB) is the finest grain.
 * UUIDs are text, LSNs, byte counts and times (nanoseconds since 1970) INTEGER, read as bigint.
 */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE groups (
    uuid TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
  ) STRICT;

  CREATE TABLE members (
    uuid TEXT PRIMARY KEY,
    group_uuid TEXT NOT NULL REFERENCES groups (uuid),
    host TEXT NOT NULL,
    -- Fencing: of the writer that was welcomed last.
    epoch INTEGER NOT NULL,
    instance BLOB NOT NULL,
    -- A lower bound of what was acknowledged. Written lazily: at least as new as the last sealed segment.
    acked_lsn INTEGER NOT NULL,
    -- Up to this time of the host's clock everything captured is known to be in the journal. Written lazily too.
    covered_time_ns INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE volumes (
    member TEXT NOT NULL REFERENCES members (uuid),
    number INTEGER NOT NULL CHECK (number BETWEEN 0 AND 63),
    uuid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    block_size INTEGER NOT NULL,
    base_state TEXT NOT NULL CHECK (base_state IN ('BASE_EMPTY', 'BASE_SYNCING', 'BASE_COMPLETE')),
    -- Records at or below this LSN are in the base, or do not matter to it.
    base_lsn INTEGER NOT NULL,
    -- BASE_SYNCING: everything below is on stable storage in the base.
    sync_offset INTEGER NOT NULL,
    PRIMARY KEY (member, number)
  ) STRICT;

  CREATE TABLE generations (
    member TEXT NOT NULL REFERENCES members (uuid),
    generation INTEGER NOT NULL,
    first_lsn INTEGER NOT NULL,
    -- NULL while the generation lasts.
    last_lsn INTEGER,
    begin_ns INTEGER NOT NULL,
    -- After this time of the host's clock nothing was captured for this generation. NULL while it lasts.
    end_ns INTEGER,
    reason TEXT NOT NULL,
    end_reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (member, generation)
  ) STRICT;

  CREATE TABLE generation_volumes (
    member TEXT NOT NULL,
    generation INTEGER NOT NULL,
    number INTEGER NOT NULL,
    size INTEGER NOT NULL,
    -- From this LSN on the volume is consistent with the others. NULL until its sync is complete.
    ordered_lsn INTEGER,
    ordered_time_ns INTEGER,
    PRIMARY KEY (member, generation, number),
    FOREIGN KEY (member, generation) REFERENCES generations (member, generation),
    FOREIGN KEY (member, number) REFERENCES volumes (member, number)
  ) STRICT;

  CREATE TABLE segments (
    member TEXT NOT NULL REFERENCES members (uuid),
    first_lsn INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    last_lsn INTEGER NOT NULL,
    first_time_ns INTEGER NOT NULL,
    last_time_ns INTEGER NOT NULL,
    first_era INTEGER NOT NULL,
    last_era INTEGER NOT NULL,
    frames INTEGER NOT NULL,
    records INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    link INTEGER NOT NULL,
    sealed INTEGER NOT NULL,
    has_run INTEGER NOT NULL,
    PRIMARY KEY (member, first_lsn)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX segments_without_run ON segments (member, first_lsn) WHERE sealed = 1 AND has_run = 0;

  -- One row per time era of a member, the first one included.
  CREATE TABLE eras (
    member TEXT NOT NULL REFERENCES members (uuid),
    era INTEGER NOT NULL,
    first_lsn INTEGER NOT NULL,
    first_time_ns INTEGER NOT NULL,
    -- Time of the last record before it: the end of the era before.
    previous_time_ns INTEGER NOT NULL,
    PRIMARY KEY (member, era)
  ) STRICT;

  CREATE TABLE checkpoints (
    group_uuid TEXT NOT NULL REFERENCES groups (uuid),
    name TEXT NOT NULL,
    member TEXT NOT NULL REFERENCES members (uuid),
    lsn INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    consistency TEXT NOT NULL CHECK (consistency IN ('crash', 'application')),
    PRIMARY KEY (group_uuid, name)
  ) STRICT;

  CREATE TABLE damage (
    member TEXT NOT NULL REFERENCES members (uuid),
    first_lsn INTEGER NOT NULL,
    last_lsn INTEGER NOT NULL,
    -- The member's generation when it was found: from first_lsn to that generation's end every instant is damaged. The
    -- next generation was compared with what the journal still gives, and is right again.
    found_generation INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (member, first_lsn)
  ) STRICT;
  `,
  `
  -- The coverage is a time of one clock: of the era that holds this LSN, the last one captured when it was said. The
  -- clock before a step says nothing of the times behind it.
  ALTER TABLE members ADD COLUMN covered_lsn INTEGER NOT NULL DEFAULT 0;
  UPDATE members SET covered_time_ns = 0;
  `,
  `
  -- Of the agent's dirty logs. A volume without a row is in doubt as a whole.
  CREATE TABLE doubts (
    member TEXT NOT NULL,
    number INTEGER NOT NULL,
    -- The log that was told of last, and how far it had come; 0: none.
    log_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    -- 1: only a comparison of everything makes the volume synced in another generation.
    whole INTEGER NOT NULL,
    PRIMARY KEY (member, number),
    FOREIGN KEY (member, number) REFERENCES volumes (member, number)
  ) STRICT;
  `,
  `
  -- How long the receiver has run, in all: what retention reckons ages by. No clock that somebody sets.
  CREATE TABLE running_time (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    elapsed_ns INTEGER NOT NULL
  ) STRICT;
  INSERT INTO running_time (id, elapsed_ns) VALUES (1, 0);

  -- The running time at which a segment was seen to take no more records: all of them are older. NULL: not yet.
  ALTER TABLE segments ADD COLUMN aged_from_ns INTEGER;
  CREATE INDEX segments_without_age ON segments (member, first_lsn) WHERE aged_from_ns IS NULL;

  -- Of members whose history was shortened. Points before oldest_lsn are given up, whatever of them is still there;
  -- segments up to dropped_lsn are in the bases: their files mean nothing.
  CREATE TABLE held_windows (
    member TEXT PRIMARY KEY REFERENCES members (uuid),
    oldest_lsn INTEGER NOT NULL,
    oldest_time_ns INTEGER NOT NULL,
    dropped_lsn INTEGER NOT NULL CHECK (dropped_lsn <= oldest_lsn)
  ) STRICT;

  ALTER TABLE checkpoints ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1));
  `,
  `
  -- A block of a base image that is not what was written: instants from first_lsn to last_lsn need it, or, with NULL, up to
  -- the end of the generation in which it was found; the next one was compared anew.
  CREATE TABLE base_damage (
    member TEXT NOT NULL,
    number INTEGER NOT NULL,
    first_lsn INTEGER NOT NULL,
    last_lsn INTEGER,
    last_time_ns INTEGER,
    found_generation INTEGER NOT NULL,
    reason TEXT NOT NULL,
    FOREIGN KEY (member, number) REFERENCES volumes (member, number)
  ) STRICT;
  CREATE INDEX base_damage_of_member ON base_damage (member);

  CREATE TABLE scrubs (
    member TEXT PRIMARY KEY REFERENCES members (uuid),
    finished_ns INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    damaged INTEGER NOT NULL
  ) STRICT;
  `,
  `
  -- From where on a volume is known to be what its source is: all of it was copied or compared.
  CREATE TABLE verified_volumes (
    member TEXT NOT NULL,
    number INTEGER NOT NULL,
    lsn INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    PRIMARY KEY (member, number),
    FOREIGN KEY (member, number) REFERENCES volumes (member, number)
  ) STRICT;

  -- A volume that was found to differ from its source: instants from first_lsn to last_lsn are wrong, or, with NULL, up to
  -- the end of the generation in which it was found; the next one is compared anew.
  CREATE TABLE differences (
    member TEXT NOT NULL,
    number INTEGER NOT NULL,
    first_lsn INTEGER NOT NULL,
    first_time_ns INTEGER NOT NULL,
    last_lsn INTEGER,
    last_time_ns INTEGER,
    found_generation INTEGER NOT NULL,
    reason TEXT NOT NULL,
    FOREIGN KEY (member, number) REFERENCES volumes (member, number)
  ) STRICT;
  CREATE INDEX differences_of_member ON differences (member);
  `,
  `
  -- The last instant that lost records touch: all that they had set was set again behind it. NULL: the end of
  -- found_generation; the next one was compared anew.
  ALTER TABLE damage ADD COLUMN touched_lsn INTEGER;
  ALTER TABLE damage ADD COLUMN touched_time_ns INTEGER;
  `,
  `
  -- Blocks of bases that had no checksum, and were given the one of what they held.
  ALTER TABLE scrubs ADD COLUMN unsummed INTEGER NOT NULL DEFAULT 0;
  `,
  `
  -- Who may connect. The UUID is what its certificates say: whoever joins under a name that was taken gets a new one, and those
  -- of the one before are worth nothing.
  CREATE TABLE identities (
    kind TEXT NOT NULL CHECK (kind IN ('host', 'operator')),
    name TEXT NOT NULL,
    uuid TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('agent', 'viewer', 'operator', 'admin')),
    -- 1: a host that may begin groups that nobody has.
    founds_groups INTEGER NOT NULL CHECK (founds_groups IN (0, 1)),
    joined_ns INTEGER NOT NULL,
    -- Of its newest certificate.
    expires_ns INTEGER NOT NULL,
    revoked_ns INTEGER,
    PRIMARY KEY (kind, name)
  ) STRICT;

  -- Each good for one join. Of the secret only the SHA-256 is kept.
  CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    secret_hash BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('host', 'operator')),
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('agent', 'viewer', 'operator', 'admin')),
    -- JSON array of names. NULL: a host that may begin groups.
    groups TEXT,
    created_ns INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL,
    used_ns INTEGER
  ) STRICT;

  -- By name: they may be given before they exist.
  CREATE TABLE granted_groups (
    host TEXT NOT NULL,
    group_name TEXT NOT NULL,
    PRIMARY KEY (host, group_name)
  ) STRICT, WITHOUT ROWID;

  -- The host that writes it. NULL: it came without identity, by plain TCP on loopback.
  ALTER TABLE members ADD COLUMN owner TEXT;
  `,
  `
  -- Retention lock: before that time nobody unpins or deletes the checkpoint. 0: there is none.
  ALTER TABLE checkpoints ADD COLUMN locked_until_ns INTEGER NOT NULL DEFAULT 0;
  `,
];
