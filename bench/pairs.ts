/** Pairs of runs, ours and the peer's by turns: what drifts on the machine drifts for both. */
import { undisturbed } from './calm.js';
import type { Progress, Run, Runs, Sample, Scale } from './measurement.js';

export async function alternating(
  { pairs }: Pick<Scale, 'pairs'>,
  progress: Progress,
  ours: () => Promise<Run>,
  peer: (() => Promise<Run>) | null,
): Promise<Runs> {
  const runs: Runs = { ours: [], peer: [] };
  for (let pair = 0; pair < pairs; pair += 1) {
    const mine = await undisturbed(ours, progress);
    runs.ours.push(mine);
    const theirs = peer === null ? null : await undisturbed(peer, progress);
    if (theirs !== null) runs.peer.push(theirs);
    progress(`${pair + 1} of ${pairs}: ours ${told(mine)}${theirs === null ? '' : `, peer ${told(theirs)}`}`);
  }
  return runs;
}

function told({ value, broken, seen }: Sample): string {
  const further = Object.entries(seen ?? {}).map(([name, figure]) => `${name} ${figure.toPrecision(3)}`);
  const notes = [...further, ...broken];
  return `${value.toPrecision(4)}${notes.length > 0 ? ` (${notes.join(', ')})` : ''}`;
}
