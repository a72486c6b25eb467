/** Which of the states that a disk may hold are looked at: some of each kind, by chance that a seed repeats. */
import path from 'node:path';
import type { Operation } from '../fault/operation_log.js';
import type { Disk, DiskChoice } from './disk.js';

export const SAMPLE_KINDS = [
  'none',
  'all',
  'allButOne',
  'onlyOne',
  'prefix',
  'subset',
  'torn',
  'tornLast',
  'oneFile',
  'namesOnly',
  'contentsOnly',
  /** Everything but one file, or directory: that which is being synced, where what waits for it must not be there yet. */
  'allButOneFile',
] as const;
export type SampleKind = (typeof SAMPLE_KINDS)[number];

export interface Sample extends DiskChoice {
  kind: SampleKind;
  /** What was uncertain. */
  uncertain: readonly Operation[];
  /** Whether a write has arrived in part; of what was chosen so far. */
  isTorn: () => boolean;
}

/**
 * A state of the disk as it is now. `random`: numbers of [0, 1), taken now and whenever the choice is asked. `sync`: next to
 * which; null: to any.
 */
export function sampleState(
  disk: Disk,
  kind: SampleKind,
  random: () => number,
  sync: Operation | null = null,
): Sample {
  const { names, contents } = disk.uncertain();
  const all = [...names, ...contents].sort((left, right) => left.begin - right.begin);
  const picked = all[Math.floor(random() * all.length)] ?? null;
  const share = random();
  const left = leftOf(sync, names, picked);
  /** One decision for each operation, and in torn ones for each sector. */
  const decided = new Map<string, boolean>();
  const decide = (key: string): boolean => {
    let answer = decided.get(key);
    if (answer === undefined) decided.set(key, (answer = random() < share));
    return answer;
  };
  /** By write: whether a sector has arrived, and whether one has not. */
  const arrived = new Map<number, boolean>();
  let isTorn = false;
  const note = (operation: Operation, isThere: boolean): boolean => {
    if (operation.kind === 'write') {
      isTorn ||= arrived.get(operation.index) === !isThere;
      arrived.set(operation.index, isThere);
    }
    return isThere;
  };
  const has = (operation: Operation, part: string, isName: boolean): boolean => {
    switch (kind) {
      case 'none':
        return false;
      case 'all':
        return true;
      case 'allButOne':
        return operation !== picked;
      case 'onlyOne':
        return operation === picked;
      case 'prefix':
        return picked !== null && operation.begin <= picked.begin;
      case 'subset':
        return decide(`${operation.index}`);
      case 'torn':
        return decide(`${operation.index} ${part}`);
      case 'tornLast':
        if (picked === null || operation.begin !== picked.begin) {
          return picked !== null && operation.begin < picked.begin;
        }
        return decide(`${operation.index} ${part}`);
      case 'oneFile':
        return picked !== null && operation.file === picked.file && operation.path === picked.path;
      case 'namesOnly':
        return isName;
      case 'contentsOnly':
        return !isName;
      case 'allButOneFile':
        return left === null || isName !== left.isName || placeOf(operation, isName) !== left.place;
    }
  };
  return {
    kind,
    uncertain: all,
    isTorn: () => isTorn,
    hasName: (operation) => has(operation, '', true),
    hasSector: (operation, sector) => note(operation, has(operation, String(sector), false)),
    hasSize: (operation) => has(operation, 'size', false),
  };
}

/** What is synced to have it: the directory of a name, the file of content. */
function placeOf({ path: name, file }: Operation, isName: boolean): string {
  return isName ? path.dirname(name) : `file ${file}`;
}

/** Of 'allButOneFile'. */
function leftOf(
  sync: Operation | null,
  names: readonly Operation[],
  picked: Operation | null,
): { isName: boolean; place: string } | null {
  if (sync?.kind === 'syncdir') return { isName: true, place: path.resolve('/', sync.path) };
  const one = sync ?? picked;
  if (one === null) return null;
  const isName = names.includes(one);
  return { isName, place: placeOf(one, isName) };
}
