/**
 * The mutants: each breaks one invariant by lines compiled in with -DAFTERIMAGE_SABOTAGE_NAME, or by a change of the compiled
 * TypeScript, and names the tests that speak about that invariant. Those have to fail, not just any.
 */
export interface Mutant {
  name: string;
  breaks: 'R1' | 'R2' | 'R3' | 'R4' | 'R5' | 'R6' | 'R7' | 'R8';
  /** What is changed in modules below dist/; of a mutant in C++ it is left out. */
  texts?: readonly TextChange[];
  /** Test cases of test/native, by their whole names: each of them has to fail. */
  native: string[];
  /**
   * A test file below test/ that has to fail, in an assertion of that name, when both daemons run the mutated addon; null: it cannot
   * see it.
   */
  scenario: { file: string; assertion: RegExp } | null;
  /** What torture has to find, "PROMISE: what is wrong", when both daemons are mutated; left out: it cannot see it. */
  torture?: RegExp;
  /** How its tests may end besides failing an assertion. Without it a crash or a time-out is no catch. */
  mayEnd?: 'crash' | 'time-out';
}

/** In a module's text, which holds `from` once. */
export interface TextChange {
  /** Below dist/. */
  module: string;
  from: string;
  to: string;
}

/** Torture: what a point shows, or does not; what source and replica hold; that the stream went on. */
const WRONG_POINT = /^R[3-6]: /;
const UNEQUAL = /^R2: /;
const ANY_PROMISE = /^R\d: /;
/** Power loss may also leave what no daemon starts with. */
const ANYTHING = /^(R\d|run): /;

/** proof.test.ts: an extent that is not marked differs after a power loss. */
const UNMARKED = { file: 'power_loss/proof', assertion: /\(R8\)$/ };
/** proof.test.ts: whichever promise it is that power loss breaks first. */
const POWER_LOSS = {
  file: 'power_loss/proof',
  assertion: /^every state opens|^every point holds|\(R4\)$|\(R6\)$|^the agent knows|^checkpoints/,
};

/** prefix.test.ts: the verdict of the oracle or of the replay over one point, or the comparison of backing and latest. */
const PREFIX = /, in \d+ sectors$|, says the replay$|is what the backing holds$/;

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'LSN_AFTER_ACK',
    breaks: 'R1',
    native: ['captured device: a write acknowledged before another was submitted has the lower LSN'],
    scenario: { file: 'scenario/prefix', assertion: PREFIX },
    torture: WRONG_POINT,
  },
  {
    name: 'PUBLISH_BEFORE_BACKING',
    breaks: 'R2',
    native: ['captured device: what is journaled is never ahead of the backing'],
    scenario: null, // an agent that follows writes down again what was in flight, and a comparison what power loss took
  },
  {
    name: 'NO_EXTENT_LOCK',
    breaks: 'R2',
    native: [
      'captured device: of two writes in flight over one range, backing and journal agree on the last',
      'extent lock: random overlapping ranges are never held together',
    ],
    scenario: { file: 'scenario/prefix', assertion: PREFIX },
    torture: ANY_PROMISE,
  },
  {
    name: 'POINT_INCLUDES_NEXT',
    breaks: 'R3',
    native: [
      'any point shows exactly the records up to it, with runs of all sealed segments',
      'any point shows exactly the records up to it, when no run was built',
    ],
    scenario: { file: 'scenario/prefix', assertion: PREFIX },
    torture: WRONG_POINT,
  },
  {
    name: 'FLUSH_IGNORED',
    breaks: 'R4',
    native: ['FLUSH and FUA reach the disk before they are answered'],
    scenario: null,
    torture: ANYTHING,
  },
  {
    name: 'ACK_BEFORE_DURABLE',
    breaks: 'R4',
    native: ['nothing is acknowledged before it was written and synced'],
    scenario: POWER_LOSS,
    torture: ANY_PROMISE,
  },
  {
    name: 'DROP_RECORD',
    breaks: 'R5',
    native: ['capture group: every record captured comes out of the stream as it went in'],
    scenario: { file: 'scenario/prefix', assertion: PREFIX },
    torture: ANY_PROMISE,
  },
  {
    name: 'TRACKING_SILENT',
    breaks: 'R5',
    native: [
      'capture group: a full ring ends the stream at the last complete LSN and leaves production alone',
    ],
    scenario: {
      file: 'scenario/outage',
      assertion: /history is not captured|continuity could not be proven|the timeline shows the gap/,
    },
    torture: /^R5: |^run: ring-full: not tracking/,
  },
  {
    name: 'ACCEPT_GAP',
    breaks: 'R5',
    native: ['a refused frame leaves every file as it was, and stops what is queued behind it'],
    scenario: null, // the session refuses it before the journal does, and no agent of ours sends it
  },
  {
    name: 'BASE_NOT_VERIFIED',
    breaks: 'R5',
    native: [
      'a block of a base that is not what was written is never given out, and all others are',
      'a point shows what records wrote over a damaged block of its base, and nothing of the block',
    ],
    scenario: { file: 'receiver/base_damage', assertion: /is not shown \(R5\)$/ },
  },
  {
    name: 'SUMS_NOT_TAKEN',
    breaks: 'R6',
    native: ['wherever writing ends, each block is right or has no checksum'],
    scenario: POWER_LOSS,
  },
  {
    name: 'GENERATION_DROPS_HISTORY',
    breaks: 'R6',
    native: ['a generation begins above everything before it or not at all, and takes nothing away'],
    scenario: { file: 'scenario/outage', assertion: /takes nothing away \(R6\)$/ },
    torture: /^R6: |^run: .*\.seg: No such file/,
  },
  {
    name: 'FLOOR_IGNORED',
    breaks: 'R6',
    texts: [{ module: 'receiver/retention/policy.js', from: 'ageNs >= settings.floorNs', to: 'true' }],
    native: [],
    scenario: { file: 'receiver/retention/policy', assertion: /younger than the floor/ },
    torture: /^R6: history was shortened/,
  },
  { name: 'SEGMENT_NAME_UNSYNCED', breaks: 'R4', native: [], scenario: POWER_LOSS, torture: ANYTHING },
  {
    name: 'CATALOG_NORMAL',
    breaks: 'R4',
    texts: [
      { module: 'receiver/catalog/database.js', from: "'synchronous = FULL'", to: "'synchronous = NORMAL'" },
      { module: 'receiver/catalog/database.js', from: 'SYNCHRONOUS_FULL = 2n', to: 'SYNCHRONOUS_FULL = 1n' },
    ],
    native: [],
    scenario: POWER_LOSS,
    torture: ANYTHING,
  },
  {
    name: 'BASE_UNSYNCED',
    breaks: 'R3',
    texts: [
      {
        module: 'receiver/base_images.js',
        from: '(await this.device(file)).flush()',
        to: 'this.device(file)',
      },
    ],
    native: [],
    scenario: POWER_LOSS,
    torture: ANYTHING,
  },
  {
    name: 'ROLL_UNSYNCED', // segments are dropped whose records the bases may lose
    breaks: 'R4',
    texts: [
      {
        module: 'receiver/retention/base_roll.js',
        from: "await named(roll.sync(), basePath, 'JOURNAL_FULL');",
        to: '',
      },
    ],
    native: [],
    scenario: POWER_LOSS,
  },
  {
    name: 'MEMBER_NAME_UNSYNCED',
    breaks: 'R4',
    texts: [
      {
        module: 'receiver/store.js',
        from: 'await syncDirectory(directory);',
        to: 'await syncDirectory(memberDirectory);',
      },
    ],
    native: [],
    scenario: POWER_LOSS,
    torture: ANYTHING,
  },
  {
    name: 'STATE_UNSYNCED',
    breaks: 'R4',
    texts: [
      {
        module: 'service/durable_file.js',
        from: 'await handle.writeFile(text);\n        await handle.sync();',
        to: 'await handle.writeFile(text);',
      },
    ],
    native: [],
    scenario: POWER_LOSS,
    torture: ANYTHING,
  },
  {
    name: 'STATE_NAME_UNSYNCED',
    breaks: 'R4',
    texts: [
      {
        module: 'service/durable_file.js',
        from: 'await syncDirectory(path.dirname(file));',
        to: '',
      },
    ],
    native: [],
    scenario: POWER_LOSS,
    torture: ANYTHING,
  },
  {
    name: 'WAIT_WHILE_FULL',
    breaks: 'R7',
    // Caught by its time-out, a minute: so one test has to do.
    native: [
      'capture group: a full ring ends the stream at the last complete LSN and leaves production alone',
    ],
    scenario: null,
    torture: /^run: ring-full: not tracking/,
    mayEnd: 'time-out', // nobody makes room
  },
  {
    name: 'SLOT_NOT_MARKED',
    breaks: 'R7',
    native: ['a modification is marked executed with its result before it is answered, a read never'],
    scenario: null, // an agent would have to die between an answer and the next request
  },
  {
    name: 'MARK_AFTER_WRITE',
    breaks: 'R8',
    native: [
      'captured device: an extent is marked on stable storage before its first write reaches the backing',
    ],
    scenario: UNMARKED,
  },
  {
    name: 'MARK_UNSYNCED',
    breaks: 'R8',
    native: [
      'dirty log: in every state that a power loss can leave, what was not replicated or not flushed is marked',
    ],
    scenario: UNMARKED,
  },
  {
    name: 'UNMARK_WITHOUT_FLUSH',
    breaks: 'R8',
    native: [
      'dirty log cleaner: nothing is unmarked before a flush of the backing has succeeded',
      'dirty log: in every state that a power loss can leave, what was not replicated or not flushed is marked',
    ],
    scenario: UNMARKED,
  },
  {
    name: 'UNMARK_UNCONFIRMED',
    breaks: 'R8',
    native: ['dirty log cleaner: nothing is unmarked that the receiver does not have'],
    scenario: UNMARKED,
  },
  {
    name: 'ENTER_BEFORE_MARK',
    breaks: 'R8',
    native: [
      'dirty log: writers that wait together are served by one sync',
      'dirty log: many threads write and a cleaner unmarks, and whoever is inside has a durable mark',
    ],
    scenario: UNMARKED,
  },
  {
    name: 'ROLL_SKIPS_ZEROES',
    breaks: 'R6',
    native: ['roll-forward: a base moved over segments, step by step, changes no point behind them'],
    scenario: null,
    torture: WRONG_POINT,
  },
  {
    name: 'IN_FLIGHT_FORGOTTEN', // what a killed agent had written and not journaled is in no record
    breaks: 'R2',
    texts: [{ module: 'agent/volume.js', from: 'await this.device.settleInFlight();', to: '' }],
    native: [],
    scenario: null,
    torture: UNEQUAL,
  },
  {
    name: 'RELEASED_WHEN_SENT', // what a receiver that dies had not made durable is nowhere
    breaks: 'R4',
    texts: [
      {
        module: 'agent/shipper.js',
        from: 'this.listener.sent(bytes);',
        to: 'this.listener.sent(bytes); this.release(frame.lastLsn);',
      },
    ],
    native: [],
    scenario: null,
    torture: ANY_PROMISE,
  },
  {
    name: 'SYNCING_SHOWN', // a point in the middle of a resync is called ordered
    breaks: 'R5',
    texts: [
      {
        module: 'receiver/timeline.js',
        from: "span('syncing', firstLsn, ordered.lsn - 1n",
        to: "span('ordered', firstLsn, ordered.lsn - 1n",
      },
    ],
    native: [],
    scenario: null,
    torture: WRONG_POINT,
  },
  {
    name: 'RESYNC_SKIPS', // of what differs in a piece, the first stretch is not sent
    breaks: 'R8',
    texts: [
      {
        module: 'agent/sync.js',
        from: 'for (const { offset, length } of differing) {',
        to: 'for (const { offset, length } of differing.slice(1)) {',
      },
    ],
    native: [],
    scenario: null,
    torture: ANY_PROMISE,
  },
  {
    name: 'RESYNC_SENDS_ALL', // also what does not differ
    breaks: 'R8',
    texts: [
      {
        module: 'agent/sync.js',
        from: 'return own.equals(hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES));',
        to: 'return own.length === 0;',
      },
    ],
    native: [],
    scenario: null,
    torture: /^R8: /,
  },
  { name: 'SPOOL_SPOILS', breaks: 'R5', native: [], scenario: null, torture: WRONG_POINT },
];

/** The name of what is built in the same way from the same files, without sabotage. */
export const CONTROL = 'NONE';
