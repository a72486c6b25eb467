import { open } from 'node:fs/promises';
import { claim } from './contradiction.js';
import { areZero } from './zeroes.js';
const READ_BYTES = 1_048_576;
/** The content of one volume, in memory, as the records applied so far have made it. */
export class VolumeImage {
    #content;
    constructor(content) {
        this.#content = content;
    }
    /** Starts from a base image; what the file lacks, or all if there is none, is zero. */
    static async fromBase(path, size) {
        const image = new VolumeImage(Buffer.alloc(size));
        const base = await open(path).catch((error) => {
            if (error instanceof Error && 'code' in error && error.code === 'ENOENT')
                return null;
            throw error;
        });
        if (base === null)
            return image;
        try {
            const part = Buffer.alloc(READ_BYTES);
            for (let at = 0;;) {
                const { bytesRead } = await base.read(part, 0, READ_BYTES, at);
                if (bytesRead === 0)
                    return image;
                const inside = Math.max(0, Math.min(bytesRead, size - at));
                part.copy(image.#content, at, 0, inside);
                claim(areZero(part.subarray(inside, bytesRead)), 'base image has content beyond the size of its volume');
                at += bytesRead;
            }
        }
        finally {
            await base.close();
        }
    }
    get content() {
        return this.#content;
    }
    /** Applies a record of this volume whose range lies within it. payload is its frame's, uncompressed. */
    apply(record, payload) {
        const { kind, offset, length, payloadOffset } = record;
        switch (kind) {
            case 'write':
                payload.copy(this.#content, offset, payloadOffset, payloadOffset + length);
                return;
            case 'zero':
                this.#content.fill(0, offset, offset + length);
                return;
            case 'resize':
            case 'membership': {
                const resized = Buffer.alloc(offset);
                this.#content.copy(resized);
                this.#content = resized;
                return;
            }
            case 'flush':
            case 'clock':
            case 'void':
                return;
        }
    }
}
//# sourceMappingURL=volume_image.js.map