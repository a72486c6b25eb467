/**
 * One host's share of a protection group: feeds the session machine with what happens, and has done what it wants
 * done. Decides nothing itself: session.ts does, and native/capture keeps production going without either of them.
 */
import { AfterimageError, isErrorCode, toAfterimageError } from '../proto/errors.js';
import { CaptureWork, isCaptureAction, } from './capture_work.js';
import { Checkpoints } from './checkpoints.js';
import { MemberReport } from './member_report.js';
import { Throughput } from '../service/throughput.js';
const TICK_MS = 1_000;
export class Member {
    session;
    port;
    codec;
    lag;
    clock;
    log;
    checkpoints;
    /** Of frame bytes sent. */
    throughput;
    /** What `throughput` knows of. */
    countedBytes = 0n;
    report;
    link = null;
    work = null;
    isDefunct = false;
    stopRequested = false;
    hasProtected = false;
    isEnded = false;
    isHandling = false;
    queue = [];
    ending = new AbortController();
    constructor(session, port, codec, lag, clock, log) {
        this.session = session;
        this.port = port;
        this.codec = codec;
        this.lag = lag;
        this.clock = clock;
        this.log = log;
        const request = (requestId, name) => {
            if (this.isDefunct)
                throw new AfterimageError('RECEIVER_UNREACHABLE', this.report.detail);
            this.feed({ type: 'checkpointRequested', requestId, name }, null);
        };
        this.checkpoints = new Checkpoints(request, clock);
        this.report = new MemberReport(log, () => clock.monotonicMs());
        this.throughput = new Throughput(() => clock.monotonicMs());
    }
    /** Null before the capture group was opened, and from end() on. */
    get capture() {
        return this.isEnded ? null : this.work;
    }
    /** Whether a defect ended its session: it is served, and nothing replicates it. */
    get hasFailed() {
        return this.isDefunct;
    }
    /** Whether all was synced once. */
    get wasProtected() {
        return this.hasProtected;
    }
    /** Whether its end was asked for. */
    get isStopping() {
        return this.stopRequested;
    }
    /** The first event. `link` reports to this member. */
    start(event, link) {
        this.link = link;
        this.feed(event, null);
    }
    /** Asks for a clean stop; the port hears of its end. False when the session has failed: there is none to wait for. */
    requestStop() {
        this.stopRequested = true;
        this.feed({ type: 'stopRequested' }, null);
        return !this.isDefunct;
    }
    /** The time for it is over. */
    expireStop() {
        this.feed({ type: 'stopExpired' }, null);
    }
    /** No more ticks; what still arrives changes nothing any more. */
    end() {
        this.isEnded = true;
        this.isDefunct = true;
        this.ending.abort();
    }
    /**
     * A defect of this program, or a backing that cannot even be flushed: the session is over, and this member with it.
     * Production goes on; the ring fills and the native group then only tracks.
     */
    fail(thrown) {
        if (this.isDefunct)
            return;
        const error = toAfterimageError(thrown);
        this.report.failed({ code: error.code, message: error.message, final: true });
        this.log.error({ err: error }, 'the session has failed; until another begins the volumes are served and not protected');
        this.isDefunct = true;
        this.ending.abort();
        try {
            this.work?.forsake();
        }
        catch (again) {
            this.log.error({ err: again }, 'after the failure');
        }
        this.link?.disconnect(error);
        this.port.failed();
    }
    opened() {
        this.feed({ type: 'connected', logs: this.captureWork().logs() }, null);
    }
    received(message) {
        if (this.isDefunct)
            return;
        try {
            this.report.received(message);
            if ('ack' in message)
                this.work?.shipper.acknowledge(message.ack.durableLsn);
        }
        catch (thrown) {
            return this.fail(thrown);
        }
        this.feed({ type: 'message', message }, null);
    }
    closed({ code, message }) {
        this.report.disconnected();
        this.feed({ type: 'disconnected', code, message }, null);
    }
    /** Events are handled one after the other, also those that an action brings about at once. */
    feed(event, bulk) {
        this.queue.push({ event, bulk });
        if (this.isHandling)
            return;
        this.isHandling = true;
        try {
            for (let next = this.queue.shift(); next !== undefined; next = this.queue.shift()) {
                if (this.isDefunct)
                    releaseBulk(next.bulk);
                else
                    this.handle(next.event, next.bulk);
            }
        }
        finally {
            this.isHandling = false;
        }
    }
    handle(event, bulk) {
        let untaken = bulk;
        try {
            if (event.type === 'positionRead')
                this.checkpoints.located(event.requestId, event.lsn, event.timeNs);
            for (const action of this.session.handle(event)) {
                if (!isCaptureAction(action))
                    this.carryOut(action);
                else {
                    this.captureWork().carryOut(action, bulk);
                    if (action.type === 'sendFrame' || action.type === 'dropFrame')
                        untaken = null;
                }
            }
            if (this.session.state === 'protected')
                this.protects();
        }
        catch (thrown) {
            this.fail(thrown);
            releaseBulk(untaken); // the next session needs the buffer
        }
    }
    protects() {
        this.hasProtected = true;
        this.report.synced(this.session.generation);
    }
    carryOut(action) {
        switch (action.type) {
            case 'persist':
                return this.persist(action.state);
            case 'open':
                return this.open(action);
            case 'connect':
                return this.link?.connect(action.attempt);
            case 'disconnect': {
                const code = isErrorCode(action.code) ? action.code : 'INTERNAL';
                return this.link?.disconnect(new AfterimageError(code, action.message));
            }
            case 'send':
                this.report.sent(action.message);
                // The link reports a loss by itself; a message that was lost with it is not sent again.
                this.link?.send(action.message).catch(() => undefined);
                return;
            case 'checkpointResult':
                return this.checkpoints.answer(action.requestId, action.code, action.message);
            case 'quiesce':
                return this.quiesce();
            case 'fail':
                return this.report.failed(action);
            case 'interrupted':
                return this.report.interrupted(action.generation, action.code, action.message);
            case 'stopped':
                return this.port.stopped(action.clean);
        }
    }
    persist(state) {
        this.port.persist(state).then(() => this.feed({ type: 'persisted' }, null), (thrown) => {
            const { code, message } = toAfterimageError(thrown);
            this.feed({ type: 'persistFailed', code, message }, null);
        });
    }
    open(action) {
        try {
            this.work = new CaptureWork(this.port.capture(action), (message) => this.sendBulk(message), (event, bulk) => this.feed(event, bulk), this.codec, this.lag, this.clock, (thrown) => this.fail(thrown));
        }
        catch (thrown) {
            this.feed({ type: 'openFailed' }, null);
            return this.port.served(toAfterimageError(thrown));
        }
        this.feed({ type: 'opened' }, null);
        void this.tick(); // now, since one volume may be in use long before the last is served
        this.port.serve().then(() => this.port.served(null), (thrown) => this.port.served(toAfterimageError(thrown)));
    }
    /** Every second until the end. Never rejects. */
    async tick() {
        for (;;) {
            try {
                await this.clock.sleep(TICK_MS, this.ending.signal);
            }
            catch {
                return;
            }
            if (this.ending.signal.aborted)
                return;
            try {
                const work = this.captureWork();
                const { shippedBytes } = work.shipper;
                this.throughput.add(Number(shippedBytes - this.countedBytes));
                this.countedBytes = shippedBytes;
                this.port.ticked();
                const logs = work.logs();
                this.feed({ type: 'tick', nowNs: this.clock.nowNs(), ring: work.ring(), logs }, null);
            }
            catch (thrown) {
                return this.fail(thrown);
            }
        }
    }
    quiesce() {
        // One after the other: while somebody uses a volume its syncs go on, and with them its protection.
        const quiesced = async () => {
            await this.port.quiesce();
            await this.work?.quiesce();
            this.feed({ type: 'quiesced', ring: this.captureWork().ring() }, null);
        };
        quiesced().catch((thrown) => this.fail(thrown));
    }
    sendBulk(message) {
        return (this.link?.send(message) ?? Promise.reject(new AfterimageError('SESSION_LOST', 'there is no link')));
    }
    captureWork() {
        if (this.work === null)
            throw new Error('the capture group is not open yet');
        return this.work;
    }
}
function releaseBulk(bulk) {
    if (bulk !== null && 'frame' in bulk)
        bulk.frame.release();
}
//# sourceMappingURL=member.js.map