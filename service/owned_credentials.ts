/**
 * Channel credentials that leave their sockets to whoever made the channel. grpc-js keeps them to itself, and Client.close() does
 * not end all of them: it waits for a transport that does not know that it is gone, and a channel that is closed between two attempts
 * to connect makes the second one, and keeps what comes of it.
 *
 * A transport does not know where TLS is used and it is a write that finds a reset: Node (20.20, TLSWrap::EncOut()) tells nobody
 * of that error, and its HTTP/2 session waits for the write with reading stopped. The kernel knows.
 */
import type net from 'node:net';
import { ChannelCredentials } from '@grpc/grpc-js';
import { descriptorOf } from './descriptor.js';

type CreateConnector = ChannelCredentials['_createSecureConnector'];

export class OwnedCredentials extends ChannelCredentials {
  private readonly sockets = new Set<net.Socket>();
  private isCutOff = false;

  /** For one channel. `isClosed`, native: whether a connection has ended, by its descriptor (tcp(7), TCP_INFO). */
  constructor(
    private readonly inner: ChannelCredentials,
    private readonly isClosed: (descriptor: number) => boolean,
  ) {
    super();
  }

  /** Whether a connection of the channel has ended, and Node has not said so yet. */
  get isGone(): boolean {
    return [...this.sockets].some((socket) => {
      const descriptor = descriptorOf(socket);
      return descriptor >= 0 && this.isClosed(descriptor);
    });
  }

  /** Ends every connection of the channel at once; it makes no more. */
  cutOff(): void {
    this.isCutOff = true;
    for (const socket of this.sockets) socket.destroy();
  }

  override _createSecureConnector(...args: Parameters<CreateConnector>): ReturnType<CreateConnector> {
    const connector = this.inner._createSecureConnector(...args);
    return {
      connect: (socket) => {
        if (this.isCutOff) return Promise.reject(new Error('the channel was closed'));
        this.sockets.add(socket);
        socket.once('close', () => this.sockets.delete(socket));
        return connector.connect(socket);
      },
      waitForReady: () => connector.waitForReady(),
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => connector.destroy(),
    };
  }

  override _isSecure(): boolean {
    return this.inner._isSecure();
  }
  override _equals(other: ChannelCredentials): boolean {
    return other === this;
  }
}
