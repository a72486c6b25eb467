/**
 * What a member's session has come to, beyond its numbers: for the status, and for the log. It listens to what is said
 * and decides nothing.
 */
import { isErrorCode } from '../proto/errors.js';
/** A failure that comes again and again is logged so often, with the number of times it came. */
const REPEAT_MS_MIN = 60_000;
/** What a receiver that is away makes fail, until it welcomes somebody again. */
const AWAY = ['RECEIVER_UNREACHABLE', 'SESSION_LOST'];
export class MemberReport {
    log;
    monotonicMs;
    /** Numbers of the volumes that have an ordered point in the present generation. */
    syncedVolumes = new Set();
    #isConnected = false;
    #failure = '';
    /** Why the stream of `generation` ended before its time, until a later one is synced. */
    #interruption = null;
    #reason = '';
    /** By code, of which there is a bounded number. */
    #logged = new Map();
    constructor(log, monotonicMs) {
        this.log = log;
        this.monotonicMs = monotonicMs;
    }
    /** Whether the receiver has answered on the present connection. */
    get isConnected() {
        return this.#isConnected;
    }
    /** Why it is not as it should be; "" when nothing is known. */
    get detail() {
        return [this.#interruption?.text ?? '', this.#failure].filter((text) => text !== '').join('; ');
    }
    failed({ code, message, final }) {
        this.#failure = `${code}: ${message}`;
        const times = this.#timesToLog(isErrorCode(code) ? code : 'INTERNAL');
        if (final)
            this.log.error({ code, final }, message);
        else if (times !== null)
            this.log.warn({ code, ...(times > 1 ? { times } : {}) }, message);
    }
    /** What production writes now is in no record. */
    interrupted(generation, code, message) {
        this.#interruption = { generation, text: `${code}: ${message}` };
        this.log.warn({ code, generation }, message);
    }
    /** The session says that all is synced in `generation`. */
    synced(generation) {
        if (this.#interruption !== null && this.#interruption.generation !== generation)
            this.#interruption = null;
    }
    sent(message) {
        if ('generationBegin' in message)
            this.#reason = message.generationBegin.reason;
        else if ('syncBegin' in message) {
            const { volume, kind, offset } = message.syncBegin;
            this.log.info({ volume, kind, offset }, 'sync begun');
        }
    }
    received(message) {
        this.#isConnected = true;
        if ('welcome' in message) {
            const { software, generation, durableLsn, volumes } = message.welcome;
            const failures = AWAY.reduce((sum, code) => sum + (this.#logged.get(code)?.suppressed ?? 0), 0);
            this.log.info({ software, generation, durableLsn, unloggedFailures: failures }, 'connected');
            for (const code of AWAY)
                this.#logged.delete(code);
            this.#failure = '';
            this.#states(volumes);
        }
        else if ('generationAccepted' in message) {
            const { generation, volumes } = message.generationAccepted;
            this.log.info({ generation, reason: this.#reason }, 'generation begun');
            this.#states(volumes);
        }
        else if ('syncComplete' in message) {
            const { volume, lsn } = message.syncComplete;
            this.syncedVolumes.add(volume);
            this.log.info({ volume, lsn }, 'sync complete');
        }
    }
    disconnected() {
        this.#isConnected = false;
    }
    #states(volumes) {
        this.syncedVolumes.clear();
        for (const { number, synced } of volumes)
            if (synced)
                this.syncedVolumes.add(number);
    }
    /** How many failures the line to be logged stands for; null: none is to be logged now. */
    #timesToLog(code) {
        const last = this.#logged.get(code);
        const nowMs = this.monotonicMs();
        if (last !== undefined && nowMs - last.atMs < REPEAT_MS_MIN) {
            last.suppressed += 1;
            return null;
        }
        this.#logged.set(code, { atMs: nowMs, suppressed: 0 });
        return (last?.suppressed ?? 0) + 1;
    }
}
//# sourceMappingURL=member_report.js.map