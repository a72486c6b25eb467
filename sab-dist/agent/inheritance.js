/** What a predecessor left in the descriptor store (custody.ts), sorted by what it belongs to. */
import { closeSync, fstatSync, readSync } from 'node:fs';
import { RING_PART, VOLUME_PARTS } from './custody.js';
import { decodeSettings } from './served_settings.js';
const SETTINGS_BYTES_MAX = 64 * 1024;
/**
 * Sorts `descriptors`, and closes those that are of no use. A predecessor that died between storing two parts of a volume
 * had not let production in to it.
 */
export function sortInheritance(descriptors) {
    const useless = [];
    const byName = new Map();
    const discard = (name, reason, isWorthless) => {
        closeSync(byName.get(name));
        byName.delete(name);
        useless.push({ name, reason, isWorthless });
    };
    for (const { name, descriptor } of descriptors) {
        if (byName.has(name))
            closeSync(descriptor); // the store got it twice
        else
            byName.set(name, descriptor);
    }
    const groups = new Map();
    for (const [name, settings] of namesWith(byName, 'settings')) {
        const part = (one) => byName.get(`${name}/${one}`) ?? null;
        const fuse = part('fuse');
        try {
            const { group, volume } = decodeSettings(readWhole(settings));
            if (name !== `${group.name}/${volume.name}`)
                throw new Error(`they are those of ${group.name}/${volume.name}`);
            if (volume.attachment.kind === 'loop' && fuse === null)
                continue;
            const inherited = groups.get(group.name) ?? {
                settings: group,
                ring: null,
                isRingSuspect: false,
                volumes: [],
            };
            const parts = { inFlight: part('in-flight'), fuse, slots: part('slots') };
            inherited.volumes.push({ settings: volume, ...parts });
            groups.set(group.name, inherited);
        }
        catch (thrown) {
            const reason = `the settings of ${name}: ${thrown.message}`;
            for (const part of VOLUME_PARTS)
                if (byName.has(`${name}/${part}`))
                    discard(`${name}/${part}`, reason, false);
            continue;
        }
        closeSync(settings);
        for (const part of VOLUME_PARTS)
            byName.delete(`${name}/${part}`);
    }
    for (const [name, group] of groups) {
        group.ring = byName.get(`${name}/${RING_PART}`) ?? null;
        byName.delete(`${name}/${RING_PART}`);
    }
    for (const name of [...byName.keys()])
        discard(name, 'it belongs to no volume that is served', true);
    return { groups: [...groups.values()], useless };
}
/** GROUP/VOLUME of every descriptor of this part. */
function namesWith(byName, part) {
    const suffix = `/${part}`;
    return [...byName]
        .filter(([name]) => name.endsWith(suffix))
        .map(([name, descriptor]) => [name.slice(0, -suffix.length), descriptor]);
}
function readWhole(descriptor) {
    const { size } = fstatSync(descriptor);
    if (size > SETTINGS_BYTES_MAX)
        throw new Error(`they have ${size} bytes`);
    const bytes = Buffer.alloc(size);
    if (readSync(descriptor, bytes, 0, size, 0) !== size)
        throw new Error('they were cut off');
    return bytes;
}
//# sourceMappingURL=inheritance.js.map