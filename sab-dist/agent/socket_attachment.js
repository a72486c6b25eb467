/** Under the volume's name, which is the default export too. Errors: LISTEN_BUSY, LISTEN_FAILED. */
export async function attachSocket(volume, address, device, startNbdServer, use, custody) {
    await custody.keep(() => ({ attachment: { kind: 'socket', address }, descriptors: {} }));
    const description = `Afterimage protected volume ${volume}`;
    const server = await startNbdServer({
        unix: 'unix' in address ? address.unix : null,
        tcp: 'tcp' in address ? address.tcp : null,
        exports: [volume, ''].map((name) => ({ name, description, device, readOnly: false })),
    }).catch((thrown) => {
        custody.forget();
        throw thrown;
    });
    const clients = () => {
        const { connections } = server;
        if (connections === 0)
            return Promise.resolve(null);
        return Promise.resolve(connections === 1 ? '1 NBD connection' : `${connections} NBD connections`);
    };
    return {
        device: server.address,
        async detach(end) {
            await use.untilNone(clients, end);
            await server.stop();
            custody.forget();
        },
    };
}
//# sourceMappingURL=socket_attachment.js.map