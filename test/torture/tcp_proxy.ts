/**
 * Stands between an agent and its receiver as the network does, and knows nothing of what goes through: delays it,
 * lets little through, lets nothing through without telling anybody, or breaks every connection with bytes under way.
 */
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** Of one direction of a connection, until the sender is held up. */
const HELD_BYTES_MAX = 4 << 20;
/** What goes out at once while it is throttled. */
const PIECE_BYTES = 16 << 10;

interface Held {
  bytes: Buffer;
  arrivedMs: number;
}
interface Connection {
  sockets: net.Socket[];
  lanes: Lane[];
}

export class TcpProxy {
  /** Each way. */
  delayMs = 0;
  /** All connections together, a second; 0: as it comes. */
  bytesPerSecond = 0;
  isStalled = false;
  /** Messages that waited for one of these. */
  heldUp = 0;
  /** That went on, both ways together. */
  bytesPassed = 0;

  private readonly connections = new Set<Connection>();
  private budgetMs = 0;

  private constructor(
    private readonly server: net.Server,
    private readonly target: { host: string; port: number },
  ) {}

  /** `target`: HOST:PORT. */
  static async start(target: string): Promise<TcpProxy> {
    const server = net.createServer();
    const [host = '', port] = target.split(':');
    const proxy = new TcpProxy(server, { host, port: Number(port) });
    server.on('connection', (socket) => proxy.accept(socket));
    server.listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    return proxy;
  }

  get address(): string {
    return `127.0.0.1:${(this.server.address() as net.AddressInfo).port}`;
  }

  heal(): void {
    this.delayMs = this.bytesPerSecond = 0;
    this.isStalled = false;
  }

  /** Breaks every connection; how many of them had bytes under way. What the proxy holds is lost. */
  cut(): number {
    let busy = 0;
    for (const { sockets, lanes } of this.connections) {
      if (lanes.some((lane) => lane.isBusy)) busy += 1;
      for (const socket of sockets) socket.resetAndDestroy();
    }
    return busy;
  }

  stop(): void {
    this.cut();
    this.server.close();
  }

  private accept(agent: net.Socket): void {
    const receiver = net.createConnection(this.target);
    const sockets = [agent, receiver];
    const connection = { sockets, lanes: [this.lane(agent, receiver), this.lane(receiver, agent)] };
    this.connections.add(connection);
    for (const socket of sockets) {
      socket.setNoDelay(true);
      socket.on('error', () => undefined); // `close` follows
      socket.on('close', () => {
        this.connections.delete(connection);
        for (const each of sockets) each.destroy();
      });
    }
  }

  private lane(from: net.Socket, to: net.Socket): Lane {
    const passed = (bytes: number): void => void (this.bytesPassed += bytes);
    return new Lane(from, to, (held) => this.admit(held), passed);
  }

  /** Resolves when the bytes may go on. */
  private async admit({ bytes, arrivedMs }: Held): Promise<void> {
    const begin = performance.now();
    while (this.isStalled) await sleep(10);
    const waitMs = arrivedMs + this.delayMs - performance.now();
    if (waitMs > 0) await sleep(waitMs);
    if (this.bytesPerSecond > 0) {
      const now = performance.now();
      this.budgetMs = Math.max(now, this.budgetMs) + (bytes.length / this.bytesPerSecond) * 1000;
      if (this.budgetMs - now > 1) await sleep(this.budgetMs - now);
    }
    if (performance.now() - begin > 5) this.heldUp += 1;
  }
}

/** One direction of a connection. */
class Lane {
  private readonly held: Held[] = [];
  private heldBytes = 0;
  private isPumping = false;
  private lastMs = 0;

  constructor(
    private readonly from: net.Socket,
    private readonly to: net.Socket,
    private readonly admit: (held: Held) => Promise<void>,
    private readonly passed: (bytes: number) => void,
  ) {
    from.on('data', (bytes: Buffer) => {
      const arrivedMs = performance.now();
      for (let at = 0; at < bytes.length; at += PIECE_BYTES)
        this.held.push({ bytes: bytes.subarray(at, at + PIECE_BYTES), arrivedMs });
      this.heldBytes += bytes.length;
      if (this.heldBytes > HELD_BYTES_MAX) from.pause();
      void this.pump();
    });
    from.on('end', () => void this.pump());
  }

  /** Something is held, not yet taken by the peer, or went through a moment ago. */
  get isBusy(): boolean {
    return this.heldBytes > 0 || this.to.writableLength > 0 || performance.now() - this.lastMs < 20;
  }

  private async pump(): Promise<void> {
    if (this.isPumping) return;
    this.isPumping = true;
    for (let next = this.held.shift(); next !== undefined; next = this.held.shift()) {
      await this.admit(next);
      this.lastMs = performance.now();
      if (!this.to.destroyed) {
        this.passed(next.bytes.length);
        if (!this.to.write(next.bytes)) await this.drained();
      }
      this.heldBytes -= next.bytes.length;
      if (this.heldBytes <= HELD_BYTES_MAX / 2) this.from.resume();
    }
    this.isPumping = false;
    if (this.from.readableEnded) this.to.end();
  }

  private drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.to.off('drain', done);
        this.to.off('close', done);
        resolve();
      };
      this.to.on('drain', done);
      this.to.on('close', done);
    });
  }
}
