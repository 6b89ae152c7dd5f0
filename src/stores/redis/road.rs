//! The way that a question takes: the connection that all share, and in a Cluster the consent (`ASKING`) to questions about a slot that
//! is on its way to that server.
//!
//! Consent holds for the one command after it. Both leave in one piece, so that no other question comes between them on the connection.

use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};

#[derive(Clone)]
pub(super) struct Road {
    connection: MultiplexedConnection,
    asking: bool,
}

impl Road {
    pub(super) fn new(connection: MultiplexedConnection) -> Self {
        Self { connection, asking: false }
    }

    /// To a server that has not taken the slot over yet.
    pub(super) fn asking(connection: MultiplexedConnection) -> Self {
        Self { connection, asking: true }
    }
}

impl ConnectionLike for Road {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        if !self.asking {
            return self.connection.req_packed_command(command);
        }
        Box::pin(async move {
            let mut both = Pipeline::with_capacity(2);
            both.cmd("ASKING").ignore().add_command(command.clone());
            let mut answers = self.connection.req_packed_commands(&both, 1, 1).await?;
            answers.pop().ok_or_else(|| RedisError::from((ErrorKind::UnexpectedReturnType, "there is no answer")))
        })
    }

    /// No question is a pipeline.
    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.connection.req_packed_commands(commands, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}
