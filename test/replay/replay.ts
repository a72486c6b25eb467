import { join } from 'node:path';
import { claim } from './contradiction.js';
import { readJournal } from './journal.js';
import { Timeline } from './timeline.js';
import { VolumeImage } from './volume_image.js';
import { hasVolume, VolumeSizes } from './volume_sizes.js';

/*
 * A reader of the journal for tests, written from docs/FORMAT.md alone and sharing no code with the product: what
 * the two agree on is not a mistake that one of them made. Naive on purpose: linear, whole in memory, no index. Nothing may change the
 * directory meanwhile, but for frames being appended.
 */

export { Contradiction } from './contradiction.js';
export { verifyRuns } from './verify_runs.js';

export interface ReplayOptions {
  /** Of the member: …/groups/<group>/<member>. */
  directory: string;
  /** Number of the volume in the stream. */
  volume: number;
  /** Size that the volume must have at lsn. */
  bytes: number;
  /** The last record to apply. It must have been used: it lies in a frame. */
  lsn: bigint;
  /** `base_lsn` of the volume: records up to there are not applied. */
  baseLsn?: bigint;
}

/**
 * The content of a volume right after record lsn. The whole journal is checked, also behind lsn. Throws
 * Contradiction on anything that the page does not allow, but for a torn tail of the last segment behind lsn.
 */
export async function replayVolume({
  directory,
  volume,
  bytes,
  lsn,
  baseLsn = 0n,
}: ReplayOptions): Promise<Buffer> {
  let content: Buffer | undefined;
  const bases = new Map([[volume, baseLsn]]);
  // Nothing is applied behind the last LSN: the content stays what it is.
  for await (const snapshot of replayAt(directory, [volume], [lsn], bases))
    content = snapshot.contents.get(volume);
  claim(content !== undefined, `volume ${volume} is not there yet at LSN ${String(lsn)}`);
  claim(
    content.length === bytes,
    `volume ${volume} has ${content.length} bytes at LSN ${String(lsn)}, not ${bytes}`,
  );
  return content;
}

export interface Snapshot {
  lsn: bigint;
  /** By number of the volume, as far as they are there. Changes when the next snapshot is asked for. */
  contents: ReadonlyMap<number, Buffer>;
}

/**
 * The contents of volumes right after each of some records, in the order of their LSNs, from one reading of the
 * journal. `baseLsns`: base_lsn by number of the volume, 0 where it is not named. Checked, and throws, as replayVolume
 * does, once it is read to its end.
 */
export async function* replayAt(
  directory: string,
  volumes: readonly number[],
  lsns: readonly bigint[],
  baseLsns: ReadonlyMap<number, bigint> = new Map(),
): AsyncGenerator<Snapshot> {
  const sizes = new VolumeSizes();
  const timeline = new Timeline();
  const images = new Map<number, VolumeImage>();
  const wanted = [...new Set(lsns)].sort((a, b) => (a < b ? -1 : 1));

  for await (const { header, frames } of readJournal(directory)) {
    sizes.enter(header);
    for (const { number, uuid, size } of header.volumes) {
      if (!volumes.includes(number)) continue;
      const known = images.get(number);
      // Behind the last LSN that is wanted nothing is applied.
      if (known !== undefined && wanted.length > 0 && known.content.length < size) known.resize(size);
      if (known !== undefined) continue;
      images.set(number, await VolumeImage.fromBase(join(directory, 'base', `${uuid}.img`), size));
    }
    for (const frame of frames) {
      timeline.follow(frame);
      const payload = frame.readPayload();
      let recordLsn = frame.header.firstLsn;
      for (const record of frame.records) {
        if (hasVolume(record)) sizes.apply(record);
        const isInBase = record.volume !== null && recordLsn <= (baseLsns.get(record.volume) ?? 0n);
        if (record.volume !== null && !isInBase && wanted.length > 0)
          images.get(record.volume)?.apply(record, payload);
        if (recordLsn === wanted[0]) {
          wanted.shift();
          yield {
            lsn: recordLsn,
            contents: new Map([...images].map(([number, { content }]) => [number, content])),
          };
        }
        recordLsn++;
      }
    }
  }

  for (const volume of volumes) claim(images.has(volume), `no segment lists volume ${volume}`);
  claim(wanted.length === 0, `LSN ${String(wanted[0])} is in no frame`);
}
