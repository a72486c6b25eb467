/**
 * A line between an agent and its receiver: each way so many bytes a second, one behind the other, and so long on their way. What it has
 * not let out yet it holds in a queue of a little more than the line itself does, as a router would; then it takes no more.
 */
import net from 'node:net';

const PIECE_BYTES = 16 << 10;
/** Of what is on its way when the line is full. */
const QUEUE_SHARE = 1.5;

export interface Line {
  bytesPerSecond: number;
  /** One way, milliseconds. */
  delayMs: number;
}

export class ShapingProxy {
  /** That have reached the receiver's end. */
  passedBytes = 0;
  private readonly sockets = new Set<net.Socket>();

  private constructor(
    private readonly server: net.Server,
    private readonly line: Line,
  ) {}

  /** `target`: HOST:PORT. */
  static async start(target: string, line: Line): Promise<ShapingProxy> {
    const server = net.createServer({ noDelay: true });
    const proxy = new ShapingProxy(server, line);
    const [host = '', port] = target.split(':');
    server.on('connection', (near) => {
      const far = net.createConnection({ host, port: Number(port), noDelay: true });
      for (const socket of [near, far]) {
        proxy.sockets.add(socket);
        socket.on('error', () => undefined); // `close` follows
        socket.on('close', () => {
          proxy.sockets.delete(socket);
          near.destroy();
          far.destroy();
        });
      }
      proxy.shape(near, far, (bytes) => (proxy.passedBytes += bytes));
      proxy.shape(far, near, () => undefined);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get address(): string {
    return `127.0.0.1:${(this.server.address() as net.AddressInfo).port}`;
  }

  stop(): void {
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
  }

  private shape(from: net.Socket, to: net.Socket, passed: (bytes: number) => void): void {
    const { bytesPerSecond, delayMs } = this.line;
    const heldMax = ((bytesPerSecond * delayMs * 2) / 1000) * QUEUE_SHARE;
    const held: { bytes: Buffer; dueMs: number }[] = [];
    let heldBytes = 0;
    // When the last of what is held has left this end of the line.
    let freeMs = 0;
    let timer: NodeJS.Timeout | null = null;
    const release = (): void => {
      timer = null;
      const now = performance.now();
      let next = held[0];
      for (; next !== undefined && next.dueMs <= now; next = held[0]) {
        held.shift();
        heldBytes -= next.bytes.length;
        if (to.writable) to.write(next.bytes);
        passed(next.bytes.length);
      }
      if (heldBytes <= heldMax) from.resume();
      if (next !== undefined) timer = setTimeout(release, Math.max(1, next.dueMs - now));
      else if (from.readableEnded) to.end();
    };
    from.on('data', (bytes: Buffer) => {
      for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
        const piece = bytes.subarray(at, at + PIECE_BYTES);
        freeMs = Math.max(freeMs, performance.now()) + (piece.length / bytesPerSecond) * 1000;
        held.push({ bytes: piece, dueMs: freeMs + delayMs });
      }
      heldBytes += bytes.length;
      if (heldBytes > heldMax) from.pause();
      if (timer === null) release();
    });
    from.on('end', () => {
      if (held.length === 0) to.end();
    });
  }
}
