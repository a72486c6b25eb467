/**
 * How messages that come in are put together: large ones straight into memory that is used again. grpc-js keeps the pieces, and
 * copies them into fresh memory when the last has come; what that left behind cost more to collect than all else that was done with
 * it. Takes the place of its decoder of Length-Prefixed-Messages (gRPC over HTTP2): a byte that says whether it is compressed,
 * the length (u32, big-endian), the message. test/service/message_assembly.test.ts tells when another grpc-js has none to replace.
 */
import { StreamDecoder } from '@grpc/grpc-js/build/src/stream-decoder.js';

const PREFIX_BYTES = 5;
/** Below, fresh memory is no burden. */
const LARGE_BYTES_MIN = 64 << 10;
const GRAIN_BYTES = 256 << 10;
/** Kept for reuse, of whatever size. */
const KEPT_BYTES_MAX = 48 << 20;
/** Where a large message is put, so that a frame, behind the prefix, a tag and three bytes of length, is at a multiple of 8. */
const OFFSET = 7;

/** Memory for large messages. What is not given back is collected as any other. */
export class MessageMemory {
  private readonly free = new Map<number, ArrayBufferLike[]>();
  private readonly lent = new WeakSet<ArrayBufferLike>();
  private freeBytes = 0;

  take(bytes: number): Buffer {
    const size = Math.ceil((OFFSET + bytes) / GRAIN_BYTES) * GRAIN_BYTES;
    let memory = this.free.get(size)?.pop();
    if (memory === undefined) memory = Buffer.allocUnsafeSlow(size).buffer;
    else this.freeBytes -= size;
    this.lent.add(memory);
    return Buffer.from(memory, OFFSET, bytes);
  }

  /** What was given back is not kept any longer. */
  forget(): void {
    this.free.clear();
    this.freeBytes = 0;
  }

  /** Nobody looks any more at what `part` is a part of. Memory from elsewhere, or given back before, is left alone. */
  giveBack({ buffer }: Buffer): void {
    if (!this.lent.delete(buffer) || this.freeBytes + buffer.byteLength > KEPT_BYTES_MAX) return;
    const same = this.free.get(buffer.byteLength);
    if (same === undefined) this.free.set(buffer.byteLength, [buffer]);
    else same.push(buffer);
    this.freeBytes += buffer.byteLength;
  }
}

/** One stream's messages. */
export class MessageAssembly {
  private readonly prefix = Buffer.alloc(PREFIX_BYTES);
  /** The message that has begun, prefix and all. */
  private message: Buffer | null = null;
  private filled = 0;

  constructor(
    private readonly memory: MessageMemory,
    /** Of a message; -1: no bound. */
    private readonly bytesMax: number,
  ) {}

  /** Takes what has come; gives the messages that are whole with it, each with its prefix. Throws an Error when one is too long. */
  add(data: Buffer): Buffer[] {
    const whole: Buffer[] = [];
    for (let at = 0; at < data.length;) {
      const into = this.message ?? this.prefix;
      const copied = data.copy(into, this.filled, at);
      at += copied;
      this.filled += copied;
      if (this.filled < into.length) break;
      if (this.message === null) this.message = this.begun();
      if (this.filled < this.message.length) continue;
      whole.push(this.message);
      this.message = null;
      this.filled = 0;
    }
    return whole;
  }

  private begun(): Buffer {
    const bytes = this.prefix.readUInt32BE(1);
    if (this.bytesMax !== -1 && bytes > this.bytesMax)
      throw new Error(`Received message larger than max (${bytes} vs ${this.bytesMax})`);
    const size = PREFIX_BYTES + bytes;
    const message = size < LARGE_BYTES_MIN ? Buffer.allocUnsafe(size) : this.memory.take(size);
    this.prefix.copy(message);
    return message;
  }
}

/** For all servers of this process, from now on. */
export function assembleInto(memory: MessageMemory): void {
  const assemblies = new WeakMap<StreamDecoder, MessageAssembly>();
  StreamDecoder.prototype.write = function (this: StreamDecoder, data) {
    let assembly = assemblies.get(this);
    if (assembly === undefined) {
      const { maxReadMessageLength } = this as unknown as { maxReadMessageLength: number };
      assembly = new MessageAssembly(memory, maxReadMessageLength);
      assemblies.set(this, assembly);
    }
    return assembly.add(data);
  };
}
