/**
 * Messages that leave without being copied. gRPC puts five bytes before each (gRPC over HTTP2, Length-Prefixed-Message), and
 * grpc-js makes room for them by copying the message into fresh memory, in a filter that no option replaces: at hundreds of
 * megabytes a second most of the CPU time went to that and to collecting what it left behind. A message that has its prefix in front of it already
 * goes past that filter; test/service/message_prefix.test.ts tells when another grpc-js does not let it.
 */
import { CompressionFilter } from '@grpc/grpc-js/build/src/compression-filter.js';

const copying = Object.getOwnPropertyDescriptor(CompressionFilter.prototype, 'sendMessage')
  ?.value as CompressionFilter['sendMessage'];

/**
 * For all of this process's clients, which send without compression: `prefixed` gives the memory of a message with its prefix
 * before it, where it has one. That memory is in use until the message's write has called back.
 */
export function sendPrefixed(prefixed: (message: Buffer) => Buffer | undefined): void {
  CompressionFilter.prototype.sendMessage = async function (this: CompressionFilter, awaited) {
    const written = await awaited;
    const whole = prefixed(written.message);
    return whole === undefined
      ? copying.call(this, Promise.resolve(written))
      : { ...written, message: whole };
  };
}
