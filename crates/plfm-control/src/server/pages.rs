//! Pages as the API's document names them: [`plfm_api::control::Page`] of each kind.

use plfm_api::control::{EnrollmentToken, FleetHost, Kernel, Rollout, Token};
use utoipa::ToSchema;

macro_rules! page {
    ($name:ident, $item:ty) => {
        /// A part of a list.
        #[derive(ToSchema)]
        #[allow(dead_code, reason = "only its shape counts")]
        pub struct $name {
            /// The items.
            items: Vec<$item>,
            /// What to give as `cursor` for the next part; none at the end.
            next_cursor: Option<String>,
        }
    };
}

page!(KernelPage, Kernel);
page!(FleetHostPage, FleetHost);
page!(RolloutPage, Rollout);
page!(TokenPage, Token);
page!(EnrollmentTokenPage, EnrollmentToken);
