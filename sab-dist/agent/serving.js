/**
 * Production's way in to the volumes of a group. One that cannot be served takes no other away, since somebody may use
 * that by then: the rest is served, and it is tried again until it can be.
 */
import { toAfterimageError } from '../proto/errors.js';
import { endAll } from './endings.js';
import { retry } from './retry.js';
export class Serving {
    custody;
    volumes;
    places;
    clock;
    log;
    begun = null;
    retries = new Map();
    stopping = new AbortController();
    constructor(custody, volumes, places, clock, log) {
        this.custody = custody;
        this.volumes = volumes;
        this.places = places;
        this.clock = clock;
        this.log = log;
    }
    /** Tries every volume once, and again those that cannot be served. Errors: of the first, if none can be. */
    begin() {
        this.begun ??= this.beginOnce(); // a session before may have, and they are served ever since
        return this.begun;
    }
    /** Takes every volume away, once nobody uses it or `end` aborts. Errors: the first of those of the front ends. */
    async end(end) {
        this.stopping.abort();
        // What is being attached meanwhile would stay behind.
        await this.begun?.catch(() => undefined);
        await endAll(() => this.volumes.map(async (volume) => {
            await this.retries.get(volume);
            await volume.detach(end);
        }));
    }
    async beginOnce() {
        const errors = await Promise.all(this.volumes.map((volume) => this.attempt(volume)));
        const [first] = errors.filter((error) => error !== null);
        if (first !== undefined && errors.every((error) => error !== null))
            throw first;
        for (const volume of this.volumes)
            if (volume.failure !== null)
                this.retries.set(volume, this.tryAgain(volume, volume.failure));
    }
    /** Null: it is served. */
    async attempt(volume) {
        const { custody, places, clock, log } = this;
        try {
            await volume.attach(custody, places, clock, log);
        }
        catch (thrown) {
            return toAfterimageError(thrown);
        }
        log.info({ volume: volume.config.name, device: volume.attachedAs }, 'serving');
        return null;
    }
    /** Until it is served, or everything stops. Never rejects. */
    async tryAgain(volume, error) {
        const { name } = volume.config;
        this.log.error({ volume: name, err: error }, 'the volume cannot be served; the others of its group are');
        const failed = ({ code, message }) => this.log.warn({ volume: name, code }, `the volume still cannot be served: ${message}`);
        await retry(() => this.attempt(volume), failed, this.clock, this.stopping.signal);
    }
}
//# sourceMappingURL=serving.js.map