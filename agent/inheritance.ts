/** What a predecessor left in the descriptor store (custody.ts), sorted by what it belongs to. */
import { closeSync, fstatSync, readSync } from 'node:fs';
import path from 'node:path';
import type { StoredDescriptor } from '../native/index.js';
import { RING_PART, VOLUME_PARTS } from './custody.js';
import { decodeSettings, type GroupSettings, type VolumeSettings } from './served_settings.js';

const SETTINGS_BYTES_MAX = 64 * 1024;

export interface InheritedVolume {
  settings: VolumeSettings;
  /** The predecessor died while it let the volume grow: its generation may have been begun with a smaller size. */
  isGrowing: boolean;
  /** The table of writes in flight; null: nobody knows what was being written. */
  inFlight: number | null;
  /** Of a loop device, null for others. */
  fuse: number | null;
  slots: number | null;
  /** The socket of an NBD export, null for others, and where there is none. */
  listening: number | null;
}
export interface InheritedGroup {
  settings: GroupSettings;
  /** Null: it is not there, and the stream ends. */
  ring: number | null;
  /** It may be what kills whoever goes on with it. */
  isRingSuspect: boolean;
  volumes: InheritedVolume[];
}
/** What this process cannot use. `reason` is for the log. */
export interface UselessDescriptor {
  name: string;
  reason: string;
  /** Nobody can: the store should let go of it. Else another version may be able to, and production waits for it. */
  isWorthless: boolean;
}

/**
 * Sorts `descriptors`, and closes those that are of no use. A predecessor that died between storing two parts of a volume
 * had not let production in to it.
 */
export function sortInheritance(descriptors: readonly StoredDescriptor[]): {
  groups: InheritedGroup[];
  useless: UselessDescriptor[];
} {
  const useless: UselessDescriptor[] = [];
  const byName = new Map<string, number>();
  const discard = (name: string, reason: string, isWorthless: boolean): void => {
    closeSync(byName.get(name) as number);
    byName.delete(name);
    useless.push({ name, reason, isWorthless });
  };
  for (const { name, descriptor } of descriptors) {
    const other = byName.get(name);
    const isLarger = other !== undefined && sizeIn(name, descriptor) > sizeIn(name, other);
    // The store got it twice: settings are kept anew when their volume has grown.
    if (other !== undefined) closeSync(isLarger ? other : descriptor);
    if (other === undefined || isLarger) byName.set(name, descriptor);
  }
  const groups = new Map<string, InheritedGroup>();
  /** Of whose volumes another version may be able to read the settings: it needs the ring too. */
  const unread = new Set<string>();
  for (const [name, settings] of namesWith(byName, 'settings')) {
    const part = (one: (typeof VOLUME_PARTS)[number]): number | null => byName.get(`${name}/${one}`) ?? null;
    const fuse = part('fuse');
    try {
      const { group, volume } = decodeSettings(readWhole(settings));
      if (name !== `${group.name}/${volume.name}`)
        throw new Error(`they are those of ${group.name}/${volume.name}`);
      if (volume.attachment.kind === 'loop' && fuse === null) continue;
      const inherited = groups.get(group.name) ?? {
        settings: group,
        ring: null,
        isRingSuspect: false,
        volumes: [],
      };
      const growing = part('growing');
      if (growing !== null) closeSync(growing);
      const parts = {
        isGrowing: growing !== null,
        inFlight: part('in-flight'),
        fuse,
        slots: part('slots'),
        listening: part('listening'),
      };
      inherited.volumes.push({ settings: volume, ...parts });
      groups.set(group.name, inherited);
    } catch (thrown) {
      const reason = `the settings of ${name}: ${(thrown as Error).message}`;
      for (const part of VOLUME_PARTS)
        if (byName.has(`${name}/${part}`)) discard(`${name}/${part}`, reason, false);
      unread.add(path.dirname(name));
      continue;
    }
    closeSync(settings);
    for (const part of VOLUME_PARTS) byName.delete(`${name}/${part}`);
  }
  for (const [name, group] of groups) {
    group.ring = byName.get(`${name}/${RING_PART}`) ?? null;
    byName.delete(`${name}/${RING_PART}`);
  }
  for (const name of [...byName.keys()]) {
    const isWorthless = path.basename(name) !== RING_PART || !unread.has(path.dirname(name));
    discard(name, 'it belongs to no volume that is served', isWorthless);
  }
  return { groups: [...groups.values()], useless };
}

/** GROUP/VOLUME of every descriptor of this part. */
function namesWith(byName: ReadonlyMap<string, number>, part: string): [string, number][] {
  const suffix = `/${part}`;
  return [...byName]
    .filter(([name]) => name.endsWith(suffix))
    .map(([name, descriptor]) => [name.slice(0, -suffix.length), descriptor]);
}

/** Of the volume, if these are settings that can be read. */
function sizeIn(name: string, descriptor: number): bigint {
  if (!name.endsWith('/settings')) return 0n;
  try {
    return decodeSettings(readWhole(descriptor)).volume.size;
  } catch {
    return 0n;
  }
}

function readWhole(descriptor: number): Buffer {
  const { size } = fstatSync(descriptor);
  if (size > SETTINGS_BYTES_MAX) throw new Error(`they have ${size} bytes`);
  const bytes = Buffer.alloc(size);
  if (readSync(descriptor, bytes, 0, size, 0) !== size) throw new Error('they were cut off');
  return bytes;
}
