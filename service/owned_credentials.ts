/**
 * Channel credentials that leave their sockets to whoever made the channel. grpc-js keeps them to itself, and Client.close() does
 * not end all of them: it waits for a transport that does not know that it is gone (agent/connection.ts), and a channel that is closed
 * between two attempts to connect makes the second one, and keeps what comes of it.
 */
import type net from 'node:net';
import { ChannelCredentials } from '@grpc/grpc-js';

type CreateConnector = ChannelCredentials['_createSecureConnector'];

export class OwnedCredentials extends ChannelCredentials {
  private readonly sockets = new Set<net.Socket>();
  private isCutOff = false;

  /** For one channel. */
  constructor(private readonly inner: ChannelCredentials) {
    super();
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
