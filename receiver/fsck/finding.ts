/** What a check of a store can find: stable codes, what each means for the history, and what to do about it. */

/**
 *   note        as it may be; worth knowing
 *   repairable  `--repair` sets it right, and loses nothing
 *   damage      history is lost, or cannot be reached
 *   unchecked   nothing can be said of it
 */
export type Severity = 'note' | 'repairable' | 'damage' | 'unchecked';

interface Kind {
  readonly severity: Severity;
  /** For which instants or points that matters. */
  readonly meaning: string;
  readonly remedy: string;
}

function kind(severity: Severity, meaning: string, remedy: string): Kind {
  return { severity, meaning, remedy };
}

const RECORD =
  'With --repair it is recorded, so that these instants are graded `damaged`; the agent then compares, and what follows is right again.';
const LOST = 'Instants from there to the end of the generation cannot be trusted.';
const CATALOG_COPY =
  'Do not start the receiver. Keep a copy of the store, and put back a catalog.sqlite that was copied with its -wal file.';
const BY_ITSELF = 'Nothing: the next start of the receiver does it by itself.';

export const FINDINGS = {
  // --- catalog ---
  CATALOG_MISSING: kind('damage', 'The names and grades of all that is here are gone.', CATALOG_COPY),
  CATALOG_CORRUPT: kind(
    'damage',
    'Names, grades and marks may be wrong or missing; the journals are not touched by it.',
    CATALOG_COPY,
  ),
  CATALOG_REFERENCE: kind('damage', 'What the row says belongs to nothing.', CATALOG_COPY),
  CATALOG_SCHEMA: kind('note', 'An older program wrote it last.', BY_ITSELF),
  CATALOG_BEHIND: kind('note', 'As after a crash: the journal is ahead of the catalog.', BY_ITSELF),
  CATALOG_ROW: kind(
    'repairable',
    'The catalog says something else of a segment than its file; no record is missing.',
    'With --repair the catalog takes over what the file says.',
  ),
  MEMBER_UNKNOWN: kind(
    'damage',
    'The history in this directory cannot be reached: the catalog does not know it.',
    'If the catalog is an older copy, put back the newest one.',
  ),
  MEMBER_UNCHECKED: kind('unchecked', 'Nothing is known of this member.', 'See the message.'),
  // --- journal ---
  SEGMENT_MISSING: kind('damage', LOST, `Put the file back if you have it. ${RECORD}`),
  SEGMENT_DAMAGED: kind('damage', LOST, RECORD),
  SEGMENT_UNREADABLE: kind('damage', LOST, `Look at the kernel log and rescue the disk first. ${RECORD}`),
  SEGMENT_FOREIGN: kind(
    'damage',
    `It belongs to another journal. ${LOST}`,
    `Find out whose it is, and put the right one back if you have it. ${RECORD}`,
  ),
  SEGMENT_LINK: kind(
    'damage',
    `It is of another history than the segment before it. ${LOST}`,
    `Put the right one back if you have it. ${RECORD}`,
  ),
  RECORDS_MISSING: kind('damage', `Acknowledged records are in no segment. ${LOST}`, RECORD),
  GENERATION_UNKNOWN: kind(
    'damage',
    'The catalog is older than the journal. The receiver refuses this member.',
    'Put back the newest copy of the catalog.',
  ),
  GENERATION_ORDER: kind(
    'damage',
    'Points behind it cannot be opened, or show what never was.',
    'Keep a copy of the store, and report it.',
  ),
  TAIL_TORN: kind(
    'note',
    'As after a crash: what lies behind the last frame was never acknowledged.',
    BY_ITSELF,
  ),
  SEGMENT_TRAILING: kind(
    'note',
    'Bytes behind the last frame mean nothing; no record is missing.',
    'Nothing.',
  ),
  SEGMENT_ABANDONED: kind(
    'repairable',
    'Its creation was interrupted: it never held a record.',
    'Removed with --repair, or by the next start of the receiver.',
  ),
  SEGMENT_STRAY: kind(
    'repairable',
    'It lies where the next segment will be written, and may hold what only the agent knows to be acknowledged.',
    'Put aside (.unreadable) with --repair, or by the next start of the receiver.',
  ),
  SEGMENT_ASIDE: kind(
    'note',
    'A segment that was put aside, and is no part of the history.',
    'Keep it as long as you may want to look at it; then remove it.',
  ),
  RUN_MISSING: kind(
    'repairable',
    'Opening a point takes longer.',
    'Built with --repair, or by the running receiver.',
  ),
  RUN_PENDING: kind(
    'note',
    'Opening a point takes a little longer.',
    'Nothing: the running receiver builds it.',
  ),
  RUN_WRONG: kind(
    'repairable',
    'A point that needs it is slower, or fails; none shows wrong bytes.',
    'Built again with --repair.',
  ),
  RUN_ORPHAN: kind('repairable', 'It indexes no segment.', 'Removed with --repair.'),
  DAMAGE_KNOWN: kind(
    'note',
    'Damage that the grades show already.',
    'Nothing. `afterimage timeline GROUP` shows which instants it is.',
  ),
  BASE_DAMAGE_KNOWN: kind(
    'note',
    'A damaged block of a base whose instants the grades show already.',
    'Nothing. `afterimage timeline GROUP` shows which instants it is.',
  ),
  DAMAGE_FOUND: kind(
    'note',
    'Records that were recorded as lost are there again; their instants stay graded `damaged`.',
    'With --force such a point can be taken.',
  ),
  // --- times and names ---
  ERA_MISSING: kind(
    'repairable',
    'A time near a step of the clock may name the wrong instant; LSNs do not.',
    'Recorded with --repair.',
  ),
  ERA_WRONG: kind(
    'damage',
    'A time near a step of the clock may name the wrong instant; LSNs do not.',
    'Name points of that time by LSN.',
  ),
  CHECKPOINT_OUTSIDE: kind(
    'note',
    'The checkpoint names an instant that the history does not hold.',
    'Nothing.',
  ),
  // --- bases ---
  BASE_LOST: kind(
    'damage',
    'No point of this volume can be opened.',
    'Put the file back if you have it. With --repair every block of it is marked as damaged, so that what needs it is graded so, and the agent sends all of it again.',
  ),
  BASE_SHORT: kind(
    'damage',
    'What was cut off is needed by every point before it was written over.',
    'Put the file back if you have it. With --repair what is missing is marked and recorded as damaged, and the agent sends it again.',
  ),
  BASE_BLOCK: kind(
    'damage',
    'Points that need the block fail with an error, until it was written over; none shows wrong bytes.',
    'With --repair these instants are graded `damaged`, and the agent sends what the newest one still needs again.',
  ),
  BASE_UNSUMMED: kind(
    'repairable',
    'Its blocks are shown without being verified: they were written by an older program, or their checksums are damaged.',
    'With --repair they get checksums of what they hold now.',
  ),
  BASE_ROLL_PENDING: kind(
    'note',
    'Retention is moving it over the oldest segments, which hold all that is being written: no point is wrong.',
    'Nothing: the running receiver goes on with it, and the blocks get their checksums.',
  ),
  BASE_LONG: kind('note', 'What lies beyond the volume is never shown.', 'Nothing.'),
  BASE_LSN: kind(
    'damage',
    'Records could be left out of a point, or applied to a base that has them already.',
    'Keep a copy of the store, and report it.',
  ),
  // --- files ---
  LEFTOVER: kind(
    'repairable',
    'An unfinished file, or one that retention has let go; it means nothing.',
    'Removed with --repair.',
  ),
  FILE_UNKNOWN: kind('note', 'It is no part of the store.', 'Move it elsewhere.'),
} as const satisfies Record<string, Kind>;

export type FindingCode = keyof typeof FINDINGS;

export interface Finding {
  code: FindingCode;
  severity: Severity;
  /** Name of the group, and host of the member; "" where it is of none. */
  group: string;
  host: string;
  /** The file, absolute. */
  subject: string;
  message: string;
  /** Records that it is about; 0n: none. */
  firstLsn: bigint;
  lastLsn: bigint;
  meaning: string;
  remedy: string;
  /** --repair has dealt with it: it is set right or, where history is lost, recorded. */
  repaired: boolean;
}

export interface FindingPlace {
  group: string;
  host: string;
}
export const NOWHERE: FindingPlace = { group: '', host: '' };

export function finding(
  code: FindingCode,
  { group, host }: FindingPlace,
  subject: string,
  message: string,
  lsns: { firstLsn: bigint; lastLsn: bigint } = { firstLsn: 0n, lastLsn: 0n },
): Finding {
  const { severity, meaning, remedy } = FINDINGS[code];
  const { firstLsn, lastLsn } = lsns;
  return {
    code,
    severity,
    group,
    host,
    subject,
    message,
    firstLsn,
    lastLsn,
    meaning,
    remedy,
    repaired: false,
  };
}
