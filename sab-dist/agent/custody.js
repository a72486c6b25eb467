/**
 * What of this process is kept outside of it, in the descriptor store of the service manager: the capture ring of each
 * group, and of each volume its settings, the table of its writes in flight and, where it is served as a loop device, its
 * FUSE session and request slots. A successor takes them (inheritance.ts) and goes on; whoever uses a loop device does not
 * notice, and an NBD client that connects again does not find a new stream.
 *
 * Without a store, or when it fails, production is served all the same; a killed agent is then noticed.
 */
import { closeSync } from 'node:fs';
import { toAfterimageError } from '../proto/errors.js';
import { encodeSettings, } from './served_settings.js';
const PATIENCE_MS = 5_000;
/** The parts of a volume that the store keeps, in that order. A name is GROUP/VOLUME/PART. */
export const VOLUME_PARTS = ['settings', 'in-flight', 'slots', 'fuse'];
/** And of a group: GROUP/ring. */
export const RING_PART = 'ring';
export class GroupCustody {
    door;
    group;
    log;
    constructor(door, group, log) {
        this.door = door;
        this.group = group;
        this.log = log;
    }
    /** The group's. */
    get name() {
        return this.group.name;
    }
    keepRing(captureGroup) {
        this.tell(() => this.door.storeDescriptor(`${this.group.name}/${RING_PART}`, captureGroup.ringDescriptor()));
    }
    forgetRing() {
        this.tell(() => this.door.forgetDescriptor(`${this.group.name}/${RING_PART}`));
    }
    /** `captured` has the table of its writes in flight. */
    volume(volume, captured) {
        const { door, group } = this;
        const nameOf = (part) => `${group.name}/${volume.name}/${part}`;
        return {
            keep: async (describe) => {
                if (!door.hasServiceManager())
                    return;
                const opened = [];
                try {
                    const { attachment, descriptors } = describe();
                    opened.push(...Object.values(descriptors));
                    const settings = encodeSettings({ group, volume: { ...volume, attachment } });
                    const memory = door.makeSealedMemory('afterimage-settings', settings);
                    opened.push(memory);
                    const parts = { ...descriptors, settings: memory, 'in-flight': captured.inFlightDescriptor() };
                    this.forgetParts(volume.name); // what a predecessor left of it
                    for (const part of VOLUME_PARTS) {
                        const descriptor = parts[part];
                        if (descriptor !== undefined)
                            door.storeDescriptor(nameOf(part), descriptor);
                    }
                    await door.awaitServiceManager(PATIENCE_MS);
                }
                catch (thrown) {
                    this.failed(thrown);
                }
                finally {
                    for (const descriptor of opened)
                        closeSync(descriptor);
                }
            },
            forget: () => this.forgetVolume(volume.name),
        };
    }
    forgetVolume(volume) {
        this.tell(() => this.forgetParts(volume));
    }
    forgetParts(volume) {
        for (const part of VOLUME_PARTS)
            this.door.forgetDescriptor(`${this.group.name}/${volume}/${part}`);
    }
    tell(what) {
        if (!this.door.hasServiceManager())
            return;
        try {
            what();
        }
        catch (thrown) {
            this.failed(thrown);
        }
    }
    failed(thrown) {
        const error = toAfterimageError(thrown);
        this.log.error({ err: error }, 'the descriptor store failed: a killed agent would be noticed by production');
    }
}
//# sourceMappingURL=custody.js.map