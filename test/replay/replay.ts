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
}

/**
 * The content of a volume right after record lsn. The whole journal is checked, also behind lsn. Throws
 * Contradiction on anything that the page does not allow, but for a torn tail of the last segment behind lsn.
 */
export async function replayVolume({ directory, volume, bytes, lsn }: ReplayOptions): Promise<Buffer> {
  const sizes = new VolumeSizes();
  const timeline = new Timeline();
  let image: VolumeImage | null = null;
  let isUsed = false;

  for await (const { header, frames } of readJournal(directory)) {
    sizes.enter(header);
    const entry = header.volumes.find(({ number }) => number === volume);
    if (image === null && entry !== undefined)
      image = await VolumeImage.fromBase(join(directory, 'base', `${entry.uuid}.img`), entry.size);

    for (const frame of frames) {
      timeline.follow(frame);
      const payload = frame.readPayload();
      let recordLsn = frame.header.firstLsn;
      for (const record of frame.records) {
        if (hasVolume(record)) sizes.apply(record);
        if (record.volume === volume && recordLsn <= lsn) image?.apply(record, payload);
        isUsed ||= recordLsn === lsn;
        recordLsn++;
      }
    }
  }

  claim(image !== null, `no segment lists volume ${volume}`);
  claim(isUsed, `LSN ${String(lsn)} is in no frame`);
  const { content } = image;
  claim(
    content.length === bytes,
    `volume ${volume} has ${content.length} bytes at LSN ${String(lsn)}, not ${bytes}`,
  );
  return content;
}
